"""The threads of a live run, and what is given up under load."""
