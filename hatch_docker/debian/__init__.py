"""Client of the Debian archive: mirrors, signatures, dependency resolution, package files. Independent of images."""
