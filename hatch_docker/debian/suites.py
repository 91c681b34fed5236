"""The names of Debian's releases, and the age up to which a cached Release file is used."""

from __future__ import annotations

from datetime import timedelta

CODENAMES = ("buster", "bullseye", "bookworm", "trixie", "forky", "duke", "sid")
FRESH = timedelta(hours=1)
