"""Writes files that belong to their user alone and are either complete or absent."""
