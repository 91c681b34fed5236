"""The command line of `hatch-docker build`; `make` runs it."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = """\
usage: hatch-docker build [OPTION]... [PROJECT]

Build the image of the Python project in the folder PROJECT (default: this one).
Without an option for the output, the image is loaded into the container engine;
if no engine answers, an archive is written to dist/.

Output (* may be repeated):
  -t, --tag REF           * name it, like registry.example/team/app:1.0
  --push                    push it to the registry of each name
  --load                    load it into the container engine
  -o, --output SPEC       * type=oci,dest=FILE  type=docker[,dest=FILE]
                            type=oci-layout,dest=FOLDER  type=registry
  --update-index            push it, and keep the platforms that the tag has
  --metadata-file FILE      write names, digests and layers, as JSON
  --iidfile FILE            write the image's ID

Content:
  --platform LIST         * like linux/amd64,linux/arm64, or all of the base
  --label KEY=VALUE       * add a label
  --annotation KEY=VALUE  * add an annotation; or index:KEY=V, manifest:KEY=V
  --set KEY=VALUE         * set a key of [tool.hatch-docker]
  --wheel FILE              install this wheel, and do not build the project's
  --package NAME            the member of this uv workspace
  --no-sources              ignore tool.uv.sources, like UV_NO_SOURCES=1

Build:
  --cache REPOSITORY      * a registry cache, like registry.example/team/cache
  --cache-mode MODE         read, or read-write (the first cache)
  --no-cache                use no result of an earlier build
  --pull                    ask for the newest files of the base again
  --progress MODE           auto, plain, tty or quiet
  -q, --quiet               show only the result, warnings and errors
  -h, --help                show this help

Examples:
  hatch-docker build -t app && docker run --rm app
  hatch-docker build -t registry.example/team/app:1.0 --push
  hatch-docker build --platform linux/amd64,linux/arm64 -o type=oci,dest=app.tar
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command. HELP describes them."""
    for names in (["-t", "--tag"], ["-o", "--output"], ["--platform"], ["--label"], ["--annotation"], ["--cache"]):
        parser.add_argument(*names, action="append", default=[])
    for name in ("--push", "--load", "--update-index", "--no-cache", "--pull"):
        parser.add_argument(name, action="store_true")
    parser.add_argument("--cache-mode", default="")
    for name in ("--metadata-file", "--iidfile", "--wheel"):
        parser.add_argument(name, type=_path, default=None)


def _path(text: str) -> Path:
    if not text:
        raise argparse.ArgumentTypeError("it is empty: name a file")
    return Path(text)
