"""Tools that know nothing of images or packages: HTTP, cache, files, streams, threads, progress, terminal."""
