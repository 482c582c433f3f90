"""The cascade: read from top to bottom, this folder is the paper."""
