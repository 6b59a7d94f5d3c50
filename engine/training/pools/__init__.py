"""Pools: clips on disk, already through the motion stem, for training and tuning a network."""
