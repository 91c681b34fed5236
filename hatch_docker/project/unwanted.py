"""Files that never belong in an image, whatever .dockerignore and .gitignore say, and files that may be secrets."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from pathlib import Path

_DIRECTORIES = frozenset(
    (
        *(".git", ".hg", ".svn", ".bzr", ".jj", "_darcs", "CVS"),
        *(".venv", "__pycache__", "__pypackages__", ".eggs", ".tox", ".nox", ".hypothesis", ".ipynb_checkpoints"),
    )
)
# In a worktree or a submodule, .git is a file.
_FILES = frozenset((".git", ".venv", ".DS_Store", "Thumbs.db", ".envrc"))
_BYTECODE = (".pyc", ".pyo")
# Templates of .env files, which are made to be committed.
_TEMPLATES = frozenset(("default", "defaults", "dist", "example", "sample", "template", "tpl"))
# Cache Directory Tagging Specification.
_TAG = b"Signature: 8a477f597d28d172789f06886806bc55"
# What builds and other tools leave in the output directory.
_OUTPUTS = (
    *("*.docker.tar", "*.docker.json", "pylock.*.toml", "build-constraints.*.txt", "debian.*.lock"),
    *("*.whl", "*.tar.gz", ".gitignore", ".*.hatch-docker-*"),
)
# The first members of archives that `docker save`, buildx, skopeo, Podman and we write.
_IMAGE_MEMBERS = re.compile(
    rb"(oci-layout|index\.json|manifest\.json|repositories|blobs/|[0-9a-f]{64}(/|\.json|\.tar))"
)
_IID = re.compile(rb"sha256:[0-9a-f]{64}\n?")
_METADATA = b'"containerimage.digest"'
_LARGEST_METADATA = 1 << 20

_SECRETS = frozenset(
    (
        *("id_rsa", "id_dsa", "id_ecdsa", "id_ed25519", ".netrc", "_netrc", ".pypirc", ".git-credentials"),
        *(".dockercfg", ".vault-token", ".pgpass", ".my.cnf", ".npmrc", ".htpasswd"),
    )
)
_SECRET_PATHS = (
    *("*.env", "*.p12", "*.pfx", "*.jks", "*.ppk", "*.kdbx", "*.keytab"),
    *("*/.streamlit/secrets.toml", "*/.aws/credentials", "*/.docker/config.json", "*/.kube/config", "*/.ssh/*"),
    *("*/service-account*.json", "*/credentials.json", "*/client_secret*.json"),
)
_KEYS = (".pem", ".key")
_PRIVATE_KEY = b"PRIVATE KEY-----"
# Files that may name an index or a server by a URL with a password. A variable (pip: ${NAME}) is none.
_SETTINGS = (".txt", ".in", ".toml", ".cfg", ".ini", ".conf")
_PASSWORD = re.compile(rb"://[^\s/:@\"']+:(?!\$)[^\s/@\"']+@")
_HEAD = 1 << 16


def is_unwanted_directory(path: Path) -> bool:
    """Whether a directory is never copied: virtual environments, caches, version control, image layouts."""
    if path.name in _DIRECTORIES or _is_environment_file(path.name):
        return True
    if (path / "pyvenv.cfg").exists() or (path / "conda-meta").is_dir() or (path / "oci-layout").is_file():
        return True
    if (path / "bin" / "activate").is_file() and (path / "bin" / "python").exists():
        return True
    tag = path / "CACHEDIR.TAG"
    return tag.is_file() and _head(tag, len(_TAG)) == _TAG


def is_unwanted_file(path: Path, output: Path) -> bool:
    """Whether a file is never copied: .env, bytecode, and what builds write, to the directory `output` or elsewhere."""
    name = path.name
    if name in _FILES or name.endswith(_BYTECODE) or _is_environment_file(name):
        return True
    if path.parent == output and any(fnmatchcase(name, each) for each in _OUTPUTS):
        return True
    return _is_result(path)


def is_environment_file(path: Path) -> bool:
    """Whether a path is that of a file with variables for a container, which may be secret."""
    return _is_environment_file(path.name)


def may_be_secret(root: Path, path: str) -> bool:
    """Whether a file looks like a credential or a private key, or has one. A certificate is none."""
    name = path.rpartition("/")[2].lower()
    if name in _SECRETS or any(fnmatchcase(f"/{path.lower()}", each) for each in _SECRET_PATHS):
        return True
    if name.endswith(_KEYS):
        return _PRIVATE_KEY in _head(root / path, _HEAD)
    return name.endswith(_SETTINGS) and _PASSWORD.search(_head(root / path, _HEAD)) is not None


def _is_environment_file(name: str) -> bool:
    return name == ".env" or (name.startswith(".env.") and name.rpartition(".")[2].lower() not in _TEMPLATES)


def _is_result(path: Path) -> bool:
    """Whether a file is an image's archive, or what a build writes for a pipeline (`--iidfile`, `--metadata-file`)."""
    try:
        size = path.stat().st_size
    except OSError:
        return False
    if path.suffix == ".tar":
        return _IMAGE_MEMBERS.match(_head(path, 100)) is not None
    if size in (71, 72):
        return _IID.fullmatch(_head(path, 72)) is not None
    return path.suffix == ".json" and size < _LARGEST_METADATA and _METADATA in _head(path, size)


def _head(path: Path, length: int) -> bytes:
    """The first bytes of a file; none if it cannot be read, which the copy reports."""
    try:
        with path.open("rb") as file:
            return file.read(length)
    except OSError:
        return b""
