"""How the base's interpreter is started in a sandbox of this machine, and what the cache knows of it."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from hatch_docker.base.image import Base
from hatch_docker.image.bytecode.known import KnownPython
from hatch_docker.image.bytecode.process import script
from hatch_docker.image.bytecode.select import cache_name
from hatch_docker.services import Services
from hatch_docker.support.foreign import SANDBOX

# Part of an archive's cache key: raise it when the same image gives another archive.
FORMAT = 2
# The kinds of cached documents: archives of interpreters, and how they answered on a machine.
ARCHIVES, IDENTITIES = "interpreters", "identities"


def archive_key(base: Base) -> str:
    """The cache key of the archive of a base's interpreter."""
    return f"{FORMAT} {base.merged.config_descriptor.digest}"


def identity_key(files: Path) -> str:
    """The cache key of how an archive's interpreter answers: the machine, the files, and the code that starts it."""
    machine = json.dumps([*os.uname(), os.geteuid()])
    return f"{machine} {files.name} {script()}{SANDBOX.read_text(encoding='utf-8')}"


def known_python(base: Base, services: Services, *, optimization: int) -> KnownPython | None:
    """The base's Python in a sandbox of this machine, if it was tried; None if it was not, or is for another CPU."""
    cache, python = services.cache, base.facts.python
    if not sys.platform.startswith("linux") or python.platform.architecture != services.host.platform.architecture:
        return None
    stored = cache.stored(ARCHIVES, archive_key(base)) or {}
    digest = str(stored.get("archive"))
    files = cache.blob(digest) if stored else None
    known = cache.stored(IDENTITIES, identity_key(files)) if files else None
    if files is None or known is None:
        return None
    return KnownPython(
        archive=digest,
        interpreter=python.interpreter,
        answer=str(known.get("answer")),
        optimization=optimization,
        ending=cache_name(".py", python, optimization).rpartition("/")[2],
    )
