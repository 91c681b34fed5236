"""Bytecode: the .pyc files of an image, compiled for its Python without running any of its modules."""
