"""pip's settings without a process: what `pip config list` prints of the environment alone."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from hatch_docker.index.pip_config import Pip


def listing(environ: Mapping[str, str]) -> str:
    """The lines of `pip config list` for the variables of `environ`, if pip has no files with settings."""
    settings = {
        name.removeprefix("PIP_").lower().replace("_", "-"): value
        for name, value in environ.items()
        if name.startswith("PIP_")
    }
    return "".join(f":env:.{key}={value!r}\n" for key, value in sorted(settings.items()))


def use_fake_pip(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `pip config list` be answered in this process. A test of the real pip says that the answers agree."""
    real = Pip._run

    def run(self: Pip, *arguments: str) -> str | None:
        return listing(self._environ) if arguments == ("config", "list") else real(self, *arguments)

    monkeypatch.setattr(Pip, "_run", run)
