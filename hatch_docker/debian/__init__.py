"""Debian's archive: which mirrors, what is signed, which packages, and what is in them. It knows nothing of images."""
