"""A Python project: its metadata, its commit, and its own distribution."""
