"""Fits and measures what decisions rest on: metrics, thresholds, a person's baseline."""
