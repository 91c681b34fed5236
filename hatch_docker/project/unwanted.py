"""Files that never belong in an image, whatever .dockerignore and .gitignore say, and files that may be secrets."""

from __future__ import annotations

from fnmatch import fnmatchcase, translate
from pathlib import Path

from hatch_docker.support.patterns import regex

_VERSION_CONTROL = frozenset((".git", ".hg", ".svn", ".bzr", ".jj", "_darcs", "CVS"))
_DIRECTORIES = frozenset(
    (
        *_VERSION_CONTROL,
        *(".venv", "__pycache__", "__pypackages__", ".eggs", ".tox", ".nox", ".hypothesis", ".ipynb_checkpoints"),
    )
)
# In a worktree or a submodule, .git is a file.
_FILES = frozenset((".git", ".venv", ".DS_Store", "Thumbs.db"))
_BYTECODE = (".pyc", ".pyo")
# Editors and people append to these names: `.env.local`, `.env-prod`, `.env~`.
_ENVIRONMENT = regex(r"\.env(?:rc)?(?:[._~-](?:.*[._-])?([^._-]*))?")
# Templates of .env files, which are made to be committed.
_TEMPLATES = frozenset(("default", "defaults", "dist", "example", "sample", "template", "tpl"))
# Cache Directory Tagging Specification.
_TAG = b"Signature: 8a477f597d28d172789f06886806bc55"
# What builds and other tools leave in the output directory.
_OURS = (
    *("*.docker.tar", "*.docker.json", "pylock.*.toml", "build-constraints.*.txt", "debian.*.lock"),
    ".*.hatch-docker-*",
)
_OUTPUTS = (*_OURS, "*.whl", "*.tar.gz", ".gitignore")
# The first members of archives that `docker save`, buildx, skopeo, Podman and we write.
_IMAGE_MEMBERS = regex(rb"(oci-layout|index\.json|manifest\.json|repositories|blobs/|[0-9a-f]{64}(/|\.json|\.tar))")
_IID = regex(rb"sha256:[0-9a-f]{64}\n?")
_METADATA = b'"containerimage.digest"'
_LARGEST_METADATA = 1 << 20

_SECRETS = frozenset(
    (
        *("id_rsa", "id_dsa", "id_ecdsa", "id_ed25519", ".netrc", "_netrc", ".pypirc", ".git-credentials"),
        *(".dockercfg", ".vault-token", ".vault_pass", ".pgpass", ".my.cnf", ".npmrc", ".htpasswd", ".boto", ".s3cfg"),
        *("credentials.json", "application_default_credentials.json", "kubeconfig", "rclone.conf", "env.list"),
    )
)
_SECRET_PATHS = (
    *("*.env", "*.p12", "*.pfx", "*.jks", "*.ppk", "*.kdbx", "*.keytab", "*.tfstate", "*.tfvars"),
    *("*/.docker/config.json", "*/.kube/config", "*/.ssh/*", "*/.aws/*", "*/.azure/*", "*/.gnupg/*", "*/.envs/*"),
    *("*/.config/gcloud/*", "*/.bash_history", "*/.python_history", "*/client_secret*.json"),
    *("*/service[-_]account*.json", "*/.secrets", "*/.secrets.toml", "*/secret.*", "*/secrets.*"),
)
# Private keys stand in files of any other name, in service accounts of Google, for example.
_PRIVATE_KEY = b"PRIVATE KEY-----"
_SECRET_PATH = regex("|".join(map(translate, _SECRET_PATHS)))
# Sources and documents, which have examples of keys.
_NO_KEYS = (".py", ".pyi", ".md", ".rst", ".html", ".js", ".css", ".ipynb")
# Files that may name an index or a server by a URL with a password. Variables (pip: ${NAME}) do not count.
_SETTINGS = (".txt", ".in", ".toml", ".cfg", ".ini", ".conf")
_PASSWORD = regex(rb"://[^\s/:@\"']+:(?!\$)[^\s/@\"']+@")
_HEAD = 1 << 16


def is_unwanted_directory(path: Path) -> bool:
    """Whether a directory is never copied: virtual environments, caches, version control, image layouts."""
    if path.name in _DIRECTORIES or _is_environment_file(path.name):
        return True
    if is_virtual_environment(path) or _is_file(path / "oci-layout"):
        return True
    tag = path / "CACHEDIR.TAG"
    return _is_file(tag) and _head(tag, len(_TAG)) == _TAG


def is_virtual_environment(path: Path) -> bool:
    """Whether a directory is a virtual environment, of any name and tool; false for what cannot be looked into."""
    try:
        if (path / "pyvenv.cfg").exists() or (path / "conda-meta").is_dir():
            return True
        return (path / "bin" / "activate").is_file() and (path / "bin" / "python").exists()
    except OSError:
        return False


def why_left_out(path: Path, output: Path, *, within_output: bool) -> str:
    """Why a folder of `extra-files` does not take a path: what it is, or empty if it is taken.

    Such a folder is chosen by hand. So caches are taken, and so is what others than we leave in the directory `output`
    that builds write to, if the folder is `within_output`.
    """
    name = path.name
    if is_version_control(path):
        return "version control"
    if name in ("__pycache__", ".DS_Store", "Thumbs.db"):
        return "caches"
    if _is_environment_file(name):
        return "variables that may be secret"
    if path.is_dir():
        if name == ".venv" or is_virtual_environment(path):
            return "virtual environments"
        return "images" if _is_file(path / "oci-layout") else ""
    patterns = _OURS if within_output else _OUTPUTS
    if path.parent == output and any(fnmatchcase(name, each) for each in patterns):
        return "what builds write"
    return "what builds write" if _is_result(path) else ""


def is_unwanted_file(path: Path, output: Path) -> bool:
    """Whether a file is never copied: .env, bytecode, and what builds write, to the directory `output` or elsewhere."""
    name = path.name
    if name in _FILES or name.endswith(_BYTECODE) or _is_environment_file(name):
        return True
    if path.parent == output and any(fnmatchcase(name, each) for each in _OUTPUTS):
        return True
    return _is_result(path)


def is_version_control(path: Path) -> bool:
    """Whether a path is named as version control's, such as `.git`."""
    return path.name in _VERSION_CONTROL


def is_environment_file(path: Path) -> bool:
    """Whether a path is that of a file with variables for a container, which may be secret."""
    return _is_environment_file(path.name)


def may_be_secret(root: Path, path: str) -> bool:
    """Whether a file looks like a credential or a private key, or has one. Certificates do not count."""
    name = path.rpartition("/")[2].lower()
    if name.endswith(_NO_KEYS):
        return False
    if not name.endswith(".pub") and (name in _SECRETS or _SECRET_PATH.match(f"/{path.lower()}")):
        return True
    head = _head(root / path, _HEAD)
    return _PRIVATE_KEY in head or (name.endswith(_SETTINGS) and _PASSWORD.search(head) is not None)


def _is_file(path: Path) -> bool:
    """Whether a path is a file; false where nobody may look, which the copy reports."""
    try:
        return path.is_file()
    except OSError:
        return False


def _is_environment_file(name: str) -> bool:
    """Whether a name is `.env` or `.envrc`, or one of these with an ending that is not that of a template."""
    found = _ENVIRONMENT.fullmatch(name)
    return found is not None and (found[1] or "").lower() not in _TEMPLATES


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
