"""Turn Debian packages into layers, without dpkg and without running any of their code.

The entry point is `assemble.py`: a new root file system (`root_files`), or more packages on an image (`added_files`).
"""
