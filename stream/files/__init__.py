"""Files that belong to their user alone, and are whole or not there."""
