"""A package index: which one, whose login, and which files it has (PEP 503, PEP 691)."""
