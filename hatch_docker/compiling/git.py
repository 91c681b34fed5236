"""The files of a Git commit, fetched once by the machine's git and cached by the commit.

Git uses the user's own configuration and credentials. The cached archive contains a working copy with its repository,
since some projects have their version from tags.
"""

from __future__ import annotations

import os
import subprocess
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from hatch_docker.compiling.wheel_cache import adopt
from hatch_docker.errors import SourceError
from hatch_docker.index.artifact import SourceTree
from hatch_docker.support import toml
from hatch_docker.support.cache import Cache
from hatch_docker.support.dataclasses import dataclass
from hatch_docker.support.patterns import regex
from hatch_docker.support.progress import Progress
from hatch_docker.support.redaction import redact, redact_text
from hatch_docker.support.scratch import temporary_directory
from hatch_docker.support.threads import ended_by_interrupt

_COMMIT = regex(r"[0-9a-f]{40}|[0-9a-f]{64}")
# Variables of a Git hook, or of a user's shell, that name another repository.
_FOREIGN = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_ALTERNATE_OBJECT_DIRECTORIES",
            "GIT_COMMON_DIR", "GIT_NAMESPACE", "GIT_PREFIX")  # fmt: skip
# The user's settings that would change the files, or run the user's hooks.
_SETTINGS = ("core.autocrlf=false", "core.hooksPath=/dev/null", "init.templateDir=", "advice.detachedHead=false")
_SHOWN = 6
# In seconds: nothing is written while Git fetches.
_PATIENCE = 600
_REFS = ("+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*")
_VERSIONING = regex(r"scm|vcs|version")


@dataclass(frozen=True, slots=True, kw_only=True)
class Git:
    """Fetches commits with the program git, in the environment `environ`."""

    environ: Mapping[str, str]
    cache: Cache
    progress: Progress

    @contextmanager
    def directory(self, tree: SourceTree, name: str) -> Iterator[Path]:
        """A copy of a commit's files, in a repository whose HEAD is the commit, until the end of the block.

        `name` is the package's, for messages. Raises SourceError.
        """
        with temporary_directory() as folder:
            checkout = folder / "source"
            archive = self._archive(tree, name)
            with tarfile.open(archive) as tar:
                # We made the archive from a directory that Git had written.
                tar.extraction_filter = staticmethod(lambda member, _path: member)
                tar.extractall(checkout)  # noqa: S202
            directory = checkout / tree.subdirectory
            if not directory.is_dir() or not directory.resolve().is_relative_to(checkout.resolve()):
                raise SourceError(
                    f"{name} comes from the directory {tree.subdirectory} of commit {tree.commit[:12]}, which has none",
                    place=redact(tree.url),
                    hint="change its subdirectory, and lock again",
                )
            yield directory

    def _archive(self, tree: SourceTree, name: str) -> Path:
        """The archive of a commit, from the cache or fetched."""
        key = f"git {self._key(tree, shallow=False)}"
        return self.cache.once(key, partial(self._known, tree), partial(self._fetched, tree, name), patience=_PATIENCE)

    def _fetched(self, tree: SourceTree, name: str) -> Path:
        with (
            self.progress.task("fetch", f"{name} {tree.commit[:12]}"),
            temporary_directory() as folder,
        ):
            repository = folder / "source"
            environ = _environment(self.environ, has_lfs(self.environ))
            _Checkout(name=name, tree=tree, folder=repository, environ=environ).make()
            key = self._key(tree, shallow=(repository / ".git" / "shallow").exists())
            with self.cache.temporary() as partial_file:
                with self.cache.open(partial_file) as out, tarfile.open(fileobj=out, mode="w") as tar:
                    tar.add(repository, arcname=".")
                path, digest = adopt(partial_file, self.cache)
        self.cache.put("git", key, {"digest": digest})
        return path

    def _known(self, tree: SourceTree) -> Path | None:
        """The archive of an earlier build, whose package may have been another one, in need of less history."""
        if complete := self._blob(self._key(tree, shallow=False)):
            return complete
        shallow = self._blob(self._key(tree, shallow=True))
        return shallow if shallow and not _may_need_history(_packed(shallow, _pyproject(tree))) else None

    def _blob(self, key: str) -> Path | None:
        known = self.cache.get("git", key)
        return self.cache.blob(str(known.get("digest"))) if known else None

    def _key(self, tree: SourceTree, *, shallow: bool) -> str:
        return f"{tree.commit}{' lfs' if has_lfs(self.environ) else ''}{' shallow' if shallow else ''}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Checkout:
    """One checkout of a commit into `folder`."""

    name: str
    tree: SourceTree
    folder: Path
    environ: Mapping[str, str]

    @property
    def _url(self) -> str:
        return self.tree.url.removeprefix("git+")

    def make(self) -> None:
        """Fetch and check out the commit, and its submodules."""
        commit = self.tree.commit
        if not _COMMIT.fullmatch(commit):
            raise self._error(f"{commit!r} is not the full hash of a commit", hint="lock again")
        if self._url.startswith("-"):
            raise self._error("its repository has an invalid URL", hint="correct its source, and lock again")
        self.folder.mkdir()
        self._git("init", "--quiet", f"--object-format={'sha256' if len(commit) == 64 else 'sha1'}")
        self._git("remote", "add", "origin", self._url)
        self._fetch()
        self._git("checkout", "--quiet", "--force", "--detach", commit)
        if self._git("rev-parse", "--verify", "HEAD").strip() != commit:
            raise self._error(f"Git checked out another commit than {commit}", hint="lock again")
        if (self.folder / ".gitmodules").exists():
            self._git("submodule", "--quiet", "update", "--init", "--recursive")

    def _fetch(self) -> None:
        """Fetch the commit alone; with its history and tags if its version may come from these.

        Not every server sends a commit by its hash: then all branches and tags are fetched.
        """
        commit = self.tree.commit
        one = f"+{commit}:refs/commit/{commit}"
        if self._try("fetch", "--quiet", "--depth", "1", "--no-tags", "origin", one):
            if _may_need_history(self._shown(_pyproject(self.tree))):
                self._git("fetch", "--quiet", "--unshallow", "origin", one)
            return
        self._git("fetch", "--quiet", "origin", *_REFS)
        if not self._try("cat-file", "-e", f"{commit}^{{commit}}"):
            raise self._error(
                f"the repository does not have commit {commit}",
                hint="push the commit, or lock again to take another one",
            )

    def _shown(self, path: str) -> str:
        """The content of a file of the commit; empty if there is none."""
        done = self._run("show", f"{self.tree.commit}:{path}")
        return done.stdout if done.returncode == 0 else ""

    def _try(self, *arguments: str) -> bool:
        return self._run(*arguments).returncode == 0

    def _git(self, *arguments: str) -> str:
        """The output of a command. Raises SourceError with Git's explanation."""
        done = self._run(*arguments)
        if done.returncode == 0:
            return done.stdout
        lines = [line.rstrip() for line in redact_text(done.stderr).splitlines() if line.strip()]
        why = "".join(f"\n  │ {line}" for line in lines[-_SHOWN:]) or f" (exit status {done.returncode})"
        raise self._error(f"Git cannot fetch commit {self.tree.commit[:12]}:{why}", hint=_hint(done.stderr))

    def _run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        settings = [text for setting in _SETTINGS for text in ("-c", setting)]
        command = ["git", *settings, *arguments]
        try:
            running = subprocess.Popen(  # noqa: S603 (no shell; the program is the user's own git)
                command,
                cwd=self.folder,
                env=self.environ,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                encoding="utf-8",
                errors="replace",
            )
        except OSError as error:
            raise self._error(f"git cannot be run: {error.strerror or error}", hint="install Git") from None
        with running, ended_by_interrupt(running.terminate):
            out, err = running.communicate()
        return subprocess.CompletedProcess(command, running.returncode, out, err)

    def _error(self, message: str, *, hint: str) -> SourceError:
        return SourceError(f"{self.name} comes from Git: {message}", place=redact(self._url), hint=hint)


def is_dirty(directory: Path, environ: Mapping[str, str]) -> bool:
    """Whether a directory has changes that are not committed. False without a repository, or without Git."""
    return bool(_answer(directory, environ, "status", "--porcelain", "--", "."))


def ignored_files(directory: Path, environ: Mapping[str, str]) -> str:
    """The files and directories below one that Git ignores. Empty without a repository, or without Git."""
    return _answer(
        directory, environ, "ls-files", "--others", "--ignored", "--exclude-standard", "--directory", "--", "."
    )


def tracked_files(directory: Path, environ: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """The relative paths of the files below a directory that Git tracks, submodules included; and that it would track.

    Both are sorted, and empty without a repository, or without Git.
    """
    tracked = _answer(directory, environ, "ls-files", "-z", "--cached", "--recurse-submodules", "--", ".")
    others = _answer(directory, environ, "ls-files", "-z", "--others", "--exclude-standard", "--", ".")
    return sorted({*tracked.split("\0")} - {""}), sorted({*others.split("\0")} - {""})


def _answer(directory: Path, environ: Mapping[str, str], *arguments: str) -> str:
    """The output of a command; empty if it fails."""
    command: Sequence[str] = ("git", "-C", str(directory), *arguments)
    try:
        done = subprocess.run(  # noqa: S603
            command, env=_environment(environ, lfs=True), stdin=subprocess.DEVNULL, capture_output=True, check=False
        )
    except OSError:
        return ""
    return os.fsdecode(done.stdout).strip() if done.returncode == 0 else ""


def _environment(environ: Mapping[str, str], lfs: bool) -> dict[str, str]:
    kept = {name: value for name, value in environ.items() if name not in _FOREIGN}
    # As in uv, files of Git LFS stay pointers unless UV_GIT_LFS is set.
    skipped = {} if lfs else {"GIT_LFS_SKIP_SMUDGE": "1"}
    return {**kept, **skipped, "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}


def has_lfs(environ: Mapping[str, str]) -> bool:
    """Whether files of Git LFS are fetched: uv's variable says so."""
    return environ.get("UV_GIT_LFS", "").lower() in ("1", "true", "yes", "on", "y", "t")


def _pyproject(tree: SourceTree) -> str:
    return f"{tree.subdirectory}/pyproject.toml".lstrip("/")


def _packed(archive: Path, path: str) -> str:
    """The content of a file of an archive; empty if there is none."""
    with tarfile.open(archive) as tar:
        try:
            file = tar.extractfile(f"./{path}")
        except KeyError:
            return ""
        return file.read().decode(errors="replace") if file else ""


def _may_need_history(pyproject: str) -> bool:
    """Whether the version of a project may come from tags: its pyproject.toml does not have it, or has a plugin."""
    try:
        document = toml.loads(pyproject)
        static = "version" in document.get("project", {}) or "version" in document["tool"]["poetry"]
        return not static or bool(_VERSIONING.search(" ".join(document["build-system"]["requires"])))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return True


def _hint(stderr: str) -> str:
    text = stderr.lower()
    if any(each in text for each in ("authentication failed", "could not read username", "permission denied", "403")):
        return "give Git a login for it: a credential helper, netrc, or an SSH key"
    if any(each in text for each in ("could not resolve host", "failed to connect", "timed out", "unable to access")):
        return "check the network, Git's proxy settings and the URL of the repository"
    if "dubious ownership" in text:
        return "if you trust the repository, add it to Git's safe.directory"
    if "transport 'file' not allowed" in text:
        return "allow submodules from local files: git config --global protocol.file.allow always"
    return "check the URL of the repository, and that you may read it"
