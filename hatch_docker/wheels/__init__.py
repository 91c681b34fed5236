"""Wheels: obtained, read where they lie, and laid out as a virtual environment (PyPA: binary distribution format)."""
