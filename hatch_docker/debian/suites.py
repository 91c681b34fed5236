"""The names of Debian's releases, and how long what they publish is current."""

from __future__ import annotations

from datetime import timedelta

CODENAMES = ("buster", "bullseye", "bookworm", "trixie", "forky", "duke", "sid")
# A cached Release file that is younger is not requested again.
FRESH = timedelta(hours=1)
