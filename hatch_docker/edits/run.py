"""Run a build after an edit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hatch_docker.edits.begin import UnsafeError, begin
from hatch_docker.errors import HatchDockerError

if TYPE_CHECKING:
    from hatch_docker.stamps.stamp import Stamp
    from hatch_docker.support.terminal import Console, ProgressMode


def run(stamp: Stamp, console: Console, mode: ProgressMode = "auto") -> str | None:
    """Build after an edit; returns the standard output of the build, None if a whole one has to run."""
    try:
        begun = begin(stamp)
        # While modules are compiled.
        from hatch_docker.edits.finish import finish

        return finish(stamp, begun, console, mode)
    except (UnsafeError, HatchDockerError, OSError, ValueError, KeyError, TypeError, AttributeError):
        # A whole build says what is wrong, if anything is.
        return None
