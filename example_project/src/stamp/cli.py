"""The command `stamp`: run the service, or have a file stamped by one."""

from __future__ import annotations

import argparse
import hashlib
import sys
from pathlib import Path

import requests
import uvicorn

from stamp.signer import verify


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="stamp", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser("serve", help="run the service")
    serve.add_argument("--port", type=int, default=8000)
    ask = commands.add_parser("file", help="have a file stamped")
    ask.add_argument("path", type=Path)
    ask.add_argument("--url", default="http://127.0.0.1:8000")
    options = parser.parse_args()
    if options.command == "serve":
        uvicorn.run("stamp.service:app", host="0.0.0.0", port=options.port)  # noqa: S104 (a container's own network)
        return 0
    return stamp_file(options.path, options.url)


def stamp_file(path: Path, url: str) -> int:
    """Ask the service at `url` for a stamp of a file, check it, and print it."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    answer = requests.post(f"{url}/stamp/{digest}", timeout=10).json()
    key = requests.get(f"{url}/key", timeout=10).json()["key"]
    if not verify(key, answer["stamp"], answer["signature"]):
        print("the stamp is not signed by the service's key", file=sys.stderr)
        return 1
    print(answer["stamp"])
    return 0
