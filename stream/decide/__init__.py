"""Turns scores into intervals and decisions. It uses no clock, thread or socket."""
