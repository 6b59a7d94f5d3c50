"""Clips on disk, behind the motion stem: what a network is trained and tuned on."""
