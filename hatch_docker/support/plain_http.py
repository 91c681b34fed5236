"""One request over a Unix socket or plain TCP, without http.client and urllib3, whose import takes longer than to ask.

A question is HTTP/1.0 (RFC 1945): the end of the connection ends an answer, unless a Content-Length says where it is.
What is sent in chunks is HTTP/1.1 (RFC 9112, 7.1). Only usual answers are understood; a full client has to ask again
after any other. It imports nothing of ours.
"""

from __future__ import annotations

import contextlib
import socket
import time

from hatch_docker.support.patterns import regex

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import TypeAlias

    # The path of a Unix socket, or a host and a port.
    Place: TypeAlias = str | tuple[str, int]

_STATUS_LINE = regex(r"HTTP/1\.[01] ([1-5][0-9]{2})(?: [^\0\r\n]*)?")
_HEADER = regex(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\0\r\n]*?)[ \t]*")
_LENGTH = regex(r"[0-9]{1,12}")
_CHUNK_HEAD = regex(rb"([0-9A-Fa-f]{1,8})[ \t]*(?:;[^\r\n]*)?\r\n")
# In bytes.
_LONGEST_HEAD = 1 << 16
_CHUNK = 1 << 16


class UnusualAnswerError(ValueError):
    """An answer that is cut off, too large, or in a form that only a full client understands."""


def ask(
    place: Place, method: str, target: str, headers: Mapping[str, str], *, seconds: float, most: int = 0
) -> tuple[int, Mapping[str, str], bytes]:
    """The status, headers and body of the answer to a GET or HEAD; names of headers are in lower case.

    All of it may take so many `seconds`, and the body have at most so many bytes. Raises OSError if there is no
    connection or the time is over, and UnusualAnswerError.
    """
    until = time.monotonic() + seconds
    with _connected(place, seconds) as connection:
        connection.sendall(_head(f"{method} {target} HTTP/1.0", headers))
        status, found, body, chunks = _answer(_received(connection, until))
        return status, found, b"" if method == "HEAD" else _body(found, body, chunks, most)


def post(
    place: Place, target: str, headers: Mapping[str, str], body: Iterable[bytes], *, seconds: float, most: int
) -> tuple[int, Mapping[str, str], bytes]:
    """The status, headers and body of the answer to a POST of any size, as `ask`; each step may take so many `seconds`.

    What surrounds chunks in the body of the answer counts, too.
    """
    with _connected(place, seconds) as connection:
        # It may have answered why it reads no more.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            sent = {**headers, "Connection": "close", "Transfer-Encoding": "chunked"}
            connection.sendall(_head(f"POST {target} HTTP/1.1", sent))
            for chunk in filter(None, body):
                connection.sendall(b"%x\r\n%b\r\n" % (len(chunk), chunk))
            connection.sendall(b"0\r\n\r\n")
        status, found, start, chunks = _answer(iter(lambda: connection.recv(_CHUNK), b""))
        if found.get("transfer-encoding", "").lower() != "chunked":
            return status, found, _body(found, start, chunks, most)
        return status, found, _unchunked(_body({}, start, chunks, most))


def _head(line: str, headers: Mapping[str, str]) -> bytes:
    return "\r\n".join([line, *(f"{name}: {value}" for name, value in headers.items()), "", ""]).encode("ascii")


def _answer(chunks: Iterator[bytes]) -> tuple[int, Mapping[str, str], bytes, Iterator[bytes]]:
    """The status and headers of an answer, the start of its body, and the rest."""
    data = b""
    while b"\r\n\r\n" not in data:
        chunk = next(chunks, b"")
        data += chunk
        if not chunk or len(data) > _LONGEST_HEAD + _CHUNK:
            raise UnusualAnswerError("its head does not end")
    head, _, body = data.partition(b"\r\n\r\n")
    status, found = _parsed(head.decode("latin-1"))
    return status, found, body, chunks


def _unchunked(data: bytes) -> bytes:
    """The content of a body in chunks, which is all there."""
    parts: list[bytes] = []
    start = 0
    while head := _CHUNK_HEAD.match(data, start):
        length, start = int(head[1], 16), head.end()
        if not length:
            return b"".join(parts)
        parts.append(data[start : start + length])
        if data[start + length : start + length + 2] != b"\r\n":
            break
        start += length + 2
    raise UnusualAnswerError("its chunks are not complete")


def _body(headers: Mapping[str, str], body: bytes, chunks: Iterator[bytes], most: int) -> bytes:
    length = headers.get("content-length", "")
    if "transfer-encoding" in headers or (length and not _LENGTH.fullmatch(length)):
        raise UnusualAnswerError("its length is not known")
    if int(length or 0) > most:
        raise UnusualAnswerError("it is too large")
    parts, size = [body], len(body)
    while size < int(length or most + 1):
        chunk = next(chunks, b"")
        if not chunk:
            break
        parts.append(chunk)
        size += len(chunk)
    if size > most or (length and size != int(length)):
        raise UnusualAnswerError("it has another length")
    return b"".join(parts)


def _parsed(head: str) -> tuple[int, Mapping[str, str]]:
    """The status and the headers; several of one name are joined (RFC 9110, 5.3)."""
    first, *lines = head.split("\r\n")
    status = _STATUS_LINE.fullmatch(first)
    if status is None:
        raise UnusualAnswerError("it is not HTTP/1")
    headers: dict[str, str] = {}
    for line in lines:
        header = _HEADER.fullmatch(line)
        if header is None:
            raise UnusualAnswerError("it has a malformed header")
        name = header[1].lower()
        headers[name] = f"{headers[name]}, {header[2]}" if name in headers else header[2]
    return int(status[1]), headers


def _received(connection: socket.socket, until: float) -> Iterator[bytes]:
    while (left := until - time.monotonic()) > 0:
        connection.settimeout(left)
        if not (chunk := connection.recv(_CHUNK)):
            return
        yield chunk
    raise TimeoutError("timed out")


def _connected(place: Place, seconds: float) -> socket.socket:
    if isinstance(place, str):
        # Windows has none.
        family = getattr(socket, "AF_UNIX", None)
        if family is None:
            raise OSError("there are no Unix sockets here")
        return _opened(family, place, seconds)
    if not 0 < place[1] < 1 << 16:
        raise OSError(f"{place[1]} is no port")
    # As bytes: a text would be encoded by `idna`, which takes another import.
    for family, *_, address in socket.getaddrinfo(place[0].encode("ascii"), place[1], type=socket.SOCK_STREAM):
        try:
            return _opened(family, address, seconds)
        except OSError as error:
            refused = error
    raise refused


def _opened(family: int, address: str | tuple[object, ...], seconds: float) -> socket.socket:
    connection = socket.socket(family, socket.SOCK_STREAM)
    try:
        connection.settimeout(seconds)
        connection.connect(address)
    except BaseException:
        connection.close()
        raise
    return connection
