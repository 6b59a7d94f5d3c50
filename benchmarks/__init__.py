"""Benchmarks: `python -m benchmarks NAME`. Each compares with a named alternative in the same run."""
