"""The list of images in an archive of `docker save`: its manifest.json."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from hatch_docker.errors import ImageError
from hatch_docker.oci.layout import Files, not_exactly_one, same_name


def saved_entry(files: Files, tag: str) -> Mapping[str, Any]:
    """The entry of the only image of an archive, or of the one named `tag`. Raises ImageError."""
    entries = saved_images(files)
    matching = [entry for entry in entries if not tag or any(same_name(tag, other) for other in entry["RepoTags"])]
    if len(matching) != 1:
        raise not_exactly_one(files, len(matching), tag, {each for entry in entries for each in entry["RepoTags"]})
    return matching[0]


def saved_images(files: Files) -> list[dict[str, Any]]:
    """The entries of manifest.json in an archive of `docker save`, with `Config`, `RepoTags` and `Layers`.

    Raises ImageError if it is malformed.
    """
    try:
        entries = json.loads(files.read("manifest.json"))
    except (ValueError, RecursionError):
        entries = None
    if not isinstance(entries, list) or not all(map(_is_saved, entries)):
        raise ImageError(
            "its manifest.json is not what 'docker save' writes",
            place=files.place,
            hint="write it as an image layout: skopeo's 'oci:' instead of 'dir:', Podman's 'oci-dir' not 'docker-dir'",
        )
    return [{**entry, "RepoTags": entry.get("RepoTags") or []} for entry in entries]


def _is_saved(entry: Any) -> bool:
    if not isinstance(entry, dict) or not isinstance(entry.get("Config"), str):
        return False
    lists = (entry.get("Layers"), entry.get("RepoTags") or [])
    return all(isinstance(names, list) and all(isinstance(name, str) for name in names) for names in lists)
