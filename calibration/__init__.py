"""Fits and measures the decisions: metrics, thresholds, a person's baseline."""
