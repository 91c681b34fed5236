"""How programs are started that run the code of others on this machine: without what they do not need to run."""

from __future__ import annotations

import errno
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

# The environment variables that programs need to run.
NEEDED = (
    "PATH",
    "LD_LIBRARY_PATH",
    # Windows
    "COMSPEC",
    "NUMBER_OF_PROCESSORS",
    "PATHEXT",
    "PROCESSOR_ARCHITECTURE",
    "SYSTEMDRIVE",
    "SYSTEMROOT",
    "WINDIR",
)
# The prefixes of variables that tell a local directory its version, such as SETUPTOOLS_SCM_PRETEND_VERSION.
VERSIONS = ("SETUPTOOLS_SCM_", "VCS_VERSIONING_", "PDM_BUILD_SCM_", "POETRY_DYNAMIC_VERSIONING_")
PROXIES = frozenset(f"{kind}_PROXY" for kind in ("ALL", "HTTP", "HTTPS", "NO"))
# The script that runs a command in namespaces of its own, and its option for a command of this machine.
SANDBOX, _HIDE = Path(__file__).parent / "sandbox.py", "--hide-processes"


def hiding(command: Sequence[str]) -> Sequence[str]:
    """A command that runs another one so that it does not see the processes of the user, and what is in them.

    On Linux, and as far as the system allows that. Raises OSError if there is no such program.
    """
    if not sys.platform.startswith("linux"):
        return command
    if not shutil.which(command[0]):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), command[0])
    return [sys.executable, "-I", "-S", str(SANDBOX), _HIDE, *command]
