"""Wheels out of sdists: pure ones on this machine, the others in a builder container."""
