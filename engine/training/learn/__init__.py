"""The training run: batches, losses, judgements, checkpoints."""
