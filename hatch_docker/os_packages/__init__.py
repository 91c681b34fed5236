"""OS packages as one layer of an image, installed by an engine; and which package has a header or library."""

from hatch_docker.os_packages.install import Installed, Installer, InstallOptions, cached_install, install

__all__ = ["InstallOptions", "Installed", "Installer", "cached_install", "install"]
