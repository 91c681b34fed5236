"""Alpine packages with real contents, made without a mirror from files in available images.

`build-base` is the compiler of the builder image, `libffi-dev` has the headers of the base's release of libffi, and
`yaml` and `yaml-dev` are libyaml, compiled from its sources in an sdist.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

from apk_repository import ARCHITECTURE, BUILDER, run

from hatch_docker.engine.client import Engine
from hatch_docker.engine.container import Container
from hatch_docker.engine.limits import Limits

_DEBIAN = "python:3.13"
_DEBIAN_HEADERS = "/usr/include/x86_64-linux-gnu"

_LIBFFI = """
mkdir -p /root-ffi/usr/include /root-ffi/usr/lib
cp /ffi.h /ffitarget.h /root-ffi/usr/include
ln -s /usr/local/lib/libffi.so.8 /root-ffi/usr/lib/libffi.so
package libffi-dev /root-ffi
"""
_YAML = """
mkdir -p /root-yaml/usr/lib /root-dev/usr/include /root-dev/usr/lib
cd /sources
cc -O2 -shared -fPIC -DHAVE_CONFIG_H -I. -Wl,-soname,libyaml-0.so.2 -o /root-yaml/usr/lib/libyaml-0.so.2 \
    api.c dumper.c emitter.c loader.c parser.c reader.c scanner.c writer.c
cp yaml.h /root-dev/usr/include
ln -s libyaml-0.so.2 /root-dev/usr/lib/libyaml.so
package yaml /root-yaml
package yaml-dev /root-dev yaml
"""
# The list has the files that are not from Alpine packages; the compiler commands are links to them.
_TOOLCHAIN = """
mkdir /root-tools /root-headers
tar c -C / -T /usr/share/toolchain.list \
    usr/lib/musl.specs usr/lib/libc.so usr/bin/gcc usr/bin/cc usr/bin/x86_64-linux-musl-gcc | tar x -C /root-tools
package build-base /root-tools
package linux-headers /root-headers
"""
_PACKAGE = f"""
set -eu
mkdir -p /made
package() {{
    apk mkpkg --info "name:$1" --info version:1.0-r0 --info arch:{ARCHITECTURE} --info description:x --info license:x \
        ${{3:+--info "depends:$3"}} --compression deflate:1 --files "$2" --output "/made/$1-1.0-r0.apk"
}}
"""
_INDEX = """
cd /made
apk mkndx --allow-untrusted --output APKINDEX.tar.gz *.apk
"""


def libffi(engine: Engine) -> dict[str, bytes]:
    """The files of a repository with `libffi-dev`, whose headers do not depend on the C library."""
    with engine.container(_DEBIAN, what="reading headers", network=False, limits=Limits()) as container:
        headers = {f"/{name}": _get(container, f"{_DEBIAN_HEADERS}/{name}") for name in ("ffi.h", "ffitarget.h")}
    return _repository(engine, [_LIBFFI], headers)


def libyaml_and_toolchain(engine: Engine, sources: Mapping[str, bytes]) -> dict[str, bytes]:
    """The files of a repository with `yaml`, `yaml-dev`, `build-base` and `linux-headers`.

    `sources` are the sources of libyaml by name.
    """
    files = {f"/sources/{name}": data for name, data in sources.items()}
    return _repository(engine, [_YAML, _TOOLCHAIN], files)


def _repository(engine: Engine, scripts: Sequence[str], files: Mapping[str, bytes]) -> dict[str, bytes]:
    with engine.container(BUILDER, what="making packages", network=False, limits=Limits()) as container:
        container.put(files)
        run(container, "sh", "-c", "".join([_PACKAGE, *scripts, _INDEX]))
        made = run(container, "ls", "/made").split()
        return {f"{ARCHITECTURE}/{name}": _get(container, f"/made/{name}") for name in made}


def _get(container: Container, path: str) -> bytes:
    out = io.BytesIO()
    container.get(path, out)
    return out.getvalue()
