"""Wheels: read without extracting, and laid out as a virtual environment (PyPA: binary distribution format)."""
