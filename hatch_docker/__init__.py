"""Build a minimal, reproducible OCI image of a Python project: `hatch build -t docker`."""
