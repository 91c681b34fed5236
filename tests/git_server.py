"""Git repositories for tests, and a server of them: Git's own http-backend behind HTTPS on loopback."""

from __future__ import annotations

import base64
import os
import ssl
import subprocess
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from loopback import Loopback, QuietHandler

ISOLATED = {
    **{name: value for name, value in os.environ.items() if not name.startswith("GIT_")},
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    **{f"GIT_{role}_{key}": "x@index.example" for role in ("AUTHOR", "COMMITTER") for key in ("NAME", "EMAIL")},
}


def git(folder: Path, *arguments: str, **env: str) -> str:
    """Run git without the user's configuration; its output without the last newline."""
    command = ["git", "-C", str(folder), *arguments]
    done = subprocess.run(command, env={**ISOLATED, **env}, check=True, capture_output=True, encoding="utf-8")
    return done.stdout.strip()


def commit(repository: Path, files: Mapping[str, str], *, tag: str = "") -> str:
    """Commit files to a repository, which is created if there is none; the commit's hash."""
    if not repository.exists():
        repository.mkdir(parents=True)
        git(repository, "init", "--quiet", "--initial-branch=main")
    for path, text in files.items():
        (repository / path).parent.mkdir(parents=True, exist_ok=True)
        (repository / path).write_text(text)
    git(repository, "add", "--all")
    git(repository, "commit", "--quiet", "--allow-empty", "--message", "change")
    if tag:
        git(repository, "tag", tag)
    return git(repository, "rev-parse", "HEAD")


class _Handler(QuietHandler):
    def do_GET(self) -> None:
        self._answer(b"")

    def do_POST(self) -> None:
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self._answer(body)

    def _answer(self, body: bytes) -> None:
        server: GitServer = self.fake
        parts = urlsplit(self.path)
        server.requests.append(parts.path)
        if parts.path.startswith("/moved/"):
            self._send(301, {"Location": f"{server.url}/{self.path.removeprefix('/moved/')}"}, b"")
            return
        if server.login and self.headers.get("Authorization") != server.login:
            self._send(401, {"WWW-Authenticate": 'Basic realm="git"'}, b"")
            return
        environ = {
            **ISOLATED,
            "GIT_PROJECT_ROOT": str(server.root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            "REQUEST_METHOD": self.command,
            "PATH_INFO": parts.path,
            "QUERY_STRING": parts.query,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "REMOTE_ADDR": "127.0.0.1",
        }
        done = subprocess.run(["git", "http-backend"], env=environ, input=body, capture_output=True, check=True)
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().splitlines())
        self._send(int(headers.pop("Status", "200").split()[0]), headers, content)

    def _send(self, status: int, headers: Mapping[str, str], content: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


class GitServer(Loopback):
    """Serves the repositories below `root`. `login` is the header that every request needs, empty for none."""

    handler = _Handler

    def __init__(self, root: Path, *, username: str = "", password: str = "") -> None:
        self.root = root
        self.requests: list[str] = []
        pair = base64.b64encode(f"{username}:{password}".encode()).decode()
        self.login = f"Basic {pair}" if username else ""
        self.certificate = root / "server.pem"
        key = root / "server.key"
        subject = ("-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1")
        command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *subject]
        subprocess.run([*command, "-keyout", str(key), "-out", str(self.certificate)], check=True, capture_output=True)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(self.certificate, key)

    @property
    def url(self) -> str:
        """The URL of `root`."""
        return f"https://{self.host}"
