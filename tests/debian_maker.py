"""Makes a small signed Debian archive, and serves it on loopback, optionally with faults."""

from __future__ import annotations

import functools
import gzip
import hashlib
import lzma
import threading
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta, timezone
from urllib.parse import unquote, urlsplit

from hypothesis import strategies as st
from loopback import Loopback, QuietHandler
from pysequoia import ArmorKind, SignatureMode, Tsk, armor, sign
from pysequoia.packet import PacketPile

from hatch_docker.debian.packages import Package
from hatch_docker.debian.sources import Mirrors, named_mirrors
from hatch_docker.support.dataclasses import dataclass, field

NOW = datetime.now(timezone.utc).replace(microsecond=0)
WEEK = timedelta(days=7)


@functools.cache
def signer(name: str = "archive", seconds: int | None = None) -> Tsk:
    """A signing key, always the same one for a name; it expires after `seconds`."""
    return Tsk.generate(f"{name} <{name}@example.org>", validity_seconds=seconds)


def keyring(*keys: Tsk) -> tuple[bytes, ...]:
    """The public parts of keys, by default that of `signer()`."""
    return tuple(str(key.extract_certificate()).encode() for key in keys or (signer(),))


_SIGNATURE = b"-----BEGIN PGP SIGNATURE-----"


def clearsigned(text: bytes, *keys: Tsk) -> bytes:
    """Make an InRelease file of `text`, signed by all of `keys`."""
    whole = [sign(key.signer(), text, mode=SignatureMode.CLEAR) for key in keys or (signer(),)]
    return whole[0][: whole[0].index(_SIGNATURE)] + _joined([each[each.index(_SIGNATURE) :] for each in whole])


def detached(text: bytes, *keys: Tsk) -> bytes:
    """Make a Release.gpg file with the signatures of all of `keys`."""
    return _joined([sign(key.signer(), text, mode=SignatureMode.DETACHED) for key in keys or (signer(),)])


def _joined(signatures: Sequence[bytes]) -> bytes:
    packets = [bytes(packet) for each in signatures for packet in PacketPile.from_bytes(each)]
    return armor(b"".join(packets), ArmorKind.Signature).encode()


def release_text(files: Mapping[str, bytes], **fields: str) -> bytes:
    """Make a Release of `files`; `fields` replace the defaults, empty ones are omitted, `_` stands for a hyphen."""
    usual = {
        "Origin": "Debian",
        "Suite": "stable",
        "Codename": "trixie",
        "Date": written(NOW),
        "Valid-Until": written(NOW + WEEK),
        "Acquire-By-Hash": "yes",
        "No-Support-for-Architecture-all": "Packages",
        "Architectures": "all amd64 arm64",
        "Components": "main contrib",
        "SHA256": "".join(
            f"\n {hashlib.sha256(data).hexdigest()} {len(data):8} {path}" for path, data in files.items()
        ),
    }
    usual |= {name.replace("_", "-"): value for name, value in fields.items()}
    return "".join(f"{name}: {value}\n" for name, value in usual.items() if value).encode()


@st.composite
def damaged(draw: st.DrawFn, data: bytes, pieces: Sequence[bytes] = ()) -> bytes:
    """`data` after random damage; `pieces` are among the inserted bytes."""
    changed = bytearray(data)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(changed)))
        piece = draw(st.one_of(st.binary(min_size=1, max_size=4), *map(st.just, pieces)))
        match draw(st.sampled_from(("replace", "insert", "remove", "cut"))):
            case "replace":
                changed[at : at + len(piece)] = piece
            case "insert":
                changed[at:at] = piece
            case "remove":
                del changed[at : at + len(piece)]
            case _:
                del changed[max(at, 1) :]
    return bytes(changed)


def written(when: datetime) -> str:
    """A time in the format of a Release."""
    return when.strftime("%a, %d %b %Y %H:%M:%S UTC")


def stanza(package: Package, **fields: str) -> str:
    """A package's paragraph in a Packages file."""
    usual = {
        "Package": package.name,
        "Version": package.version,
        "Architecture": package.architecture,
        "Filename": package.filename,
        "Size": str(package.size),
        "SHA256": package.sha256,
    }
    return "".join(f"{name}: {value}\n" for name, value in (usual | fields).items())


class _Handler(QuietHandler):
    fake: DebianArchive

    def setup(self) -> None:
        super().setup()
        with self.fake.lock:
            self.fake.connections += 1

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path).lstrip("/")
        with self.fake.lock:
            self.fake.requests.append(path)
            self.fake.headers.append(dict(self.headers))
            statuses = self.fake.statuses.get(path, [])
            status = statuses.pop(0) if statuses else 200
            self.fake.active += 1
            self.fake.most_active = max(self.fake.most_active, self.fake.active)
            if self.fake.active == self.fake.together:
                self.fake.gate.set()
        try:
            self._answer(path, status)
        finally:
            with self.fake.lock:
                self.fake.active -= 1

    def _answer(self, path: str, status: int) -> None:
        content = self.fake.files.get(path)
        if content is None or status != 200:
            self._send(404 if status == 200 else status, b"an answer without a file", 24)
            return
        first = int(self.headers.get("Range", "bytes=0-")[6:-1])
        rest = content[first:]
        cut = self.fake.broken.get(path, 0) > 0
        if cut:
            self.fake.broken[path] -= 1
        self.fake.gate.wait(60)
        self._send(206 if first else 200, rest[: len(rest) // 2] if cut else rest, len(rest))
        self.close_connection = cut

    def _send(self, status: int, body: bytes, length: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(body)


@dataclass(kw_only=True)
class DebianArchive(Loopback):
    """An archive whose `files` are by path: `debian/…`, `debian-security/…`.

    `statuses` of a path are the responses to its first requests. Responses for a `broken` path end after half of the
    rest, the given number of times. Responses wait until there are `together` requests at once.
    """

    handler = _Handler

    key: Tsk = field(default_factory=signer)
    files: dict[str, bytes] = field(default_factory=dict)
    statuses: dict[str, list[int]] = field(default_factory=dict)
    broken: dict[str, int] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    connections: int = 0
    active: int = 0
    most_active: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    together: int = 1
    gate: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        return f"http://{self.host}/debian"

    @property
    def mirrors(self) -> Mirrors:
        return named_mirrors(self.url)

    def add(
        self, name: str, content: bytes, *, version: str = "1.0-1", root: str = "debian", suite: str = ""
    ) -> Package:
        """Add a package with the .deb file `content` to the pool."""
        pool = "pool/updates/main" if root == "debian-security" else "pool/main"
        filename = f"{pool}/{name[0]}/{name}/{name}_{version}_amd64.deb"
        self.files[f"{root}/{filename}"] = content
        return Package(
            name=name,
            version=version,
            architecture="amd64",
            suite=suite,
            filename=filename,
            size=len(content),
            sha256=hashlib.sha256(content).hexdigest(),
        )

    def publish(
        self,
        suite: str,
        packages: Sequence[Package] = (),
        *,
        suffixes: Sequence[str] = (".xz", ".gz", ""),
        by_hash: bool = True,
        architecture: str = "amd64",
        fields: Mapping[str, str] | None = None,
    ) -> None:
        """Publish a suite of `packages`; `fields` are those of its InRelease."""
        root = "debian-security" if suite.endswith("-security") else "debian"
        text = "\n".join(stanza(package) for package in packages).encode()
        path = f"main/binary-{architecture}/Packages"
        packed = {".xz": lzma.compress(text), ".gz": gzip.compress(text, mtime=0), "": text}
        listed = {f"{path}{suffix}": packed[suffix] for suffix in {*suffixes, ""}}
        for suffix in suffixes:
            self.files[f"{root}/dists/{suite}/{path}{suffix}"] = packed[suffix]
            if by_hash:
                name = hashlib.sha256(packed[suffix]).hexdigest()
                self.files[f"{root}/dists/{suite}/main/binary-{architecture}/by-hash/SHA256/{name}"] = packed[suffix]
        release = release_text(listed, **{"Suite": "", "Codename": suite, **(fields or {})})
        self.files[f"{root}/dists/{suite}/InRelease"] = clearsigned(release, self.key)

    def detach(self, suite: str, *keys: Tsk) -> None:
        """Replace the InRelease of a suite by Release and Release.gpg, as on some mirrors."""
        folder = f"debian/dists/{suite}"
        whole = self.files.pop(f"{folder}/InRelease")
        text = whole[whole.index(b"\n\n") + 2 : whole.index(b"-----BEGIN PGP SIGNATURE")]
        self.files[f"{folder}/Release"] = text
        self.files[f"{folder}/Release.gpg"] = detached(text, *(keys or (self.key,)))
