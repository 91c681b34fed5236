"""Shared tools that know nothing of images or packages: HTTP, cache, files, threads, progress, terminal."""
