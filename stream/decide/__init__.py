"""Scores in, intervals and decisions out. Knows no clock, thread or socket."""
