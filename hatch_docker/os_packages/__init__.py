"""OS packages, put into an image by its own package manager, in a container of the engine."""

from hatch_docker.os_packages.install import Installed, install

__all__ = ["Installed", "install"]
