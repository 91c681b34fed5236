"""What a build says and records of an image that was made after an edit: as the stamp's build did of the earlier."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

from hatch_docker.edits.make import Made
from hatch_docker.edits.record import EditRecord
from hatch_docker.image.table import Beneath, Row, layer_table


def result_document(record: EditRecord, made: Made) -> dict[str, Any]:
    """The result file, as `image.report.document` has it, with all layers reused that were not made."""
    document: dict[str, Any] = json.loads(record.output.document)
    image, (entry,) = made.image, document["images"]
    earlier = document["digest"]
    for whole in (document, entry):
        if whole["wheel"]:
            whole["wheel"]["sha256"] = made.wheel.partition(":")[2]
    identity = image.config_descriptor.digest
    document["containerimage.config.digest"] = entry["image-id"] = identity
    document["containerimage.descriptor"] = image.descriptor.to_json()
    document["containerimage.digest"] = document["digest"] = entry["digest"] = image.digest
    document["reference"] = document["reference"].replace(earlier, image.digest)
    document["outputs"] = json.loads(json.dumps(document["outputs"]).replace(earlier, image.digest))
    entry["size"] = sum(layer.descriptor.size for layer in image.layers)
    below = len(image.layers) - len(entry["layers"])
    for number, layer in made.layers.items():
        descriptor = layer.layer.descriptor
        entry["layers"][number - below] |= {
            "digest": descriptor.digest,
            "diff-id": layer.layer.diff_id,
            "size": descriptor.size,
            "unpacked": layer.layer.unpacked,
        }
    return document


def with_made(document: dict[str, Any], made: Collection[int]) -> dict[str, Any]:
    """The document in which the layers of these numbers, among all of the image, were made."""
    (entry,) = document["images"]
    below = entry["base"]["layers"]
    layers = [{**each, "reused": number + below not in made} for number, each in enumerate(entry["layers"])]
    return {**document, "images": [{**entry, "layers": layers}]}


def text_of(document: dict[str, Any]) -> str:
    """The text of a result file."""
    return json.dumps(document, indent=2) + "\n"


def lines_of(record: EditRecord, document: dict[str, Any]) -> list[str]:
    """The lines of the report."""
    (entry,) = document["images"]
    rows = [
        Row(contents=tuple(each["contents"]), size=each["size"], unpacked=each["unpacked"], reused=each["reused"])
        for each in entry["layers"]
    ]
    base = entry["base"]
    beneath = Beneath(name=base["name"], layers=base["layers"], size=entry["size"] - sum(row.size for row in rows))
    run = record.message.run
    return ["", *layer_table(beneath, rows, pruned=record.message.pruned), *(["", f"  {run}"] if run else [])]
