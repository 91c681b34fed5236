"""The files of a base image with all contents that a build may need: for its facts, and to compile for its Python."""

from __future__ import annotations

from hatch_docker.base import files
from hatch_docker.base.interpreter import needs_content
from hatch_docker.oci.filesystem import Filesystem, KeptFiles
from hatch_docker.oci.image import Image
from hatch_docker.oci.merging import merge
from hatch_docker.oci.source import fetch
from hatch_docker.support.patterns import regex

_SITE = regex(r"(?:site|dist)-packages/")
_LIBRARY = regex(r"(?:.*/)?python3\.\d+t?/.*")
_MODULES = (".py", ".pyc")
# Of the extension modules, those that an interpreter loads to read sources: names of characters, and codecs.
_EXTENSIONS = regex(r".*/lib-dynload/(?:unicodedata|_multibytecodec|_codecs_[a-z0-9]+)\.[^/]*so")
# The loader, and libraries that interpreters link to.
_LIKELY = regex(r"(?:.*/)?(?:ld-|ld64|lib(?:c|m|dl|util|pthread|rt|z|crypt|expat|gcc_s|python3[^/]*)[.-])[^/]*so[^/]*")


def read_files(image: Image, kept: KeptFiles, threads: int) -> Filesystem:
    """The listing of an image, with the contents of the files that matter. It is kept.

    Only the layers above those that are kept are read. Raises ImageError for layers that cannot be read.
    """
    layers = [layer.diff_id for layer in image.layers]
    with kept.lock:
        count, below = kept.lowest(layers)
        if below is None or count < len(layers):
            fetch(image, threads=threads)
            below = merge(image.layers[count:], _matters, below)
            kept.keep(layers, below)
        return below


def _matters(path: str) -> bool:
    return needs_content(path) or files.needs_text(path) or needed_to_compile(path)


def needed_to_compile(path: str) -> bool:
    """Whether a file is likely to be one that the image's Python needs to compile, or one of its standard library."""
    if _LIKELY.fullmatch(path):
        return True
    if not _LIBRARY.fullmatch(path):
        return False
    return bool((path.endswith(_MODULES) and not _SITE.search(path)) or _EXTENSIONS.fullmatch(path))
