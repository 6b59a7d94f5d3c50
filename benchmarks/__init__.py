"""What it costs: `python -m benchmarks NAME`. Each measures against a named alternative in the same run."""
