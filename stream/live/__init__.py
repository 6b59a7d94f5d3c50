"""The threads of a live run, and how it copes with overload."""
