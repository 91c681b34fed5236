"""Debian packages → what a layer holds, without dpkg and without running anything of them.

`assemble.py` is the door: a root file system of its own (`root_files`), or more packages on an image (`added_files`).
"""
