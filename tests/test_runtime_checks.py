from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from prepared_maker import TARGET, make_prepared

from hatch_docker.errors import ConfigError
from hatch_docker.image.commands import Chosen
from hatch_docker.image.environment import environment
from hatch_docker.image.merged import Identity, merge_files
from hatch_docker.image.remedies import Advisor
from hatch_docker.image.runtime_checks import check_directories, check_runtime
from hatch_docker.oci.config import Healthcheck, ImageConfig
from hatch_docker.oci.filesystem import Filesystem, Node
from hatch_docker.oci.layer import Entry
from hatch_docker.support.cache import Cache
from hatch_docker.support.dataclasses import dataclass, field, replace
from hatch_docker.support.progress import Progress
from hatch_docker.wheels.install import venv_skeleton
from hatch_docker.wheels.prepare import PreparedWheel

SITE = "app/.venv/lib/python3.13/site-packages"
ADVISOR = Advisor(manager="apt", shell_base='base = "debian:trixie-debug" has a shell')
BASE_ENV = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8"}
STATIC = b"\x7fELF\x02\x01\x01" + bytes(50)
SHELL_SCRIPT = b"#!/bin/sh\nexec app\n"
DIRECTORIES = (
    "usr",
    "usr/bin",
    "usr/local",
    "usr/local/bin",
    "usr/local/lib",
    "usr/local/lib/python3.13",
    "etc",
    "root",
)


def file(content: bytes = STATIC, mode: int = 0o755, uid: int = 0, gid: int = 0) -> Node:
    return Node(kind="file", mode=mode, uid=uid, gid=gid, head=content if mode & 0o111 else b"")


def link(to: str) -> Node:
    return Node(kind="link", link=to)


SLIM = {
    **{name: Node(kind="dir") for name in DIRECTORIES},
    "root": Node(kind="dir", mode=0o700),
    "bin": link("usr/bin"),
    "usr/local/bin/python3.13": file(),
    "usr/local/bin/python3": link("python3.13"),
    "usr/local/lib/python3.13/os.py": file(mode=0o644),
    "usr/local/lib/python3.13/http": Node(kind="dir"),
    "usr/local/lib/python3.13/http/__init__.py": file(mode=0o644),
    "usr/local/lib/python3.13/http/server.py": file(mode=0o644),
    "usr/bin/sh": link("dash"),
    "usr/bin/dash": file(),
    "usr/bin/env": file(),
}
DISTROLESS = {path: node for path, node in SLIM.items() if path not in ("usr/bin/sh", "usr/bin/dash", "usr/bin/env")}


class Recorder(Progress):
    def __init__(self) -> None:
        self.warnings: list[str] = []
        self.notes: list[str] = []

    def warn(self, text: str) -> None:
        self.warnings.append(text)

    def note(self, text: str) -> None:
        self.notes.append(text)


@dataclass
class Outcome:
    """What a check said."""

    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass
class Image:
    """An image to check; `inherited` are the keys that are the base's."""

    base: Mapping[str, Node] = field(default_factory=lambda: SLIM)
    files: Sequence[Entry] = ()
    project: Sequence[Entry] = ()
    wheels: Sequence[PreparedWheel] = ()
    inherited: frozenset[str] = frozenset()
    uid: int = 65532
    groups: frozenset[int] = frozenset({65532})
    env: Mapping[str, str] = field(default_factory=dict)
    volumes: tuple[str, ...] = ()
    base_volumes: tuple[str, ...] = ()
    ports: tuple[str, ...] = ()
    working_dir: str = "/app"
    advisor: Advisor = ADVISOR

    def check(
        self, entrypoint: Sequence[str] = (), cmd: Sequence[str] = (), healthcheck: Sequence[str] = ()
    ) -> Outcome:
        config = ImageConfig(
            platform=TARGET.platform,
            env=environment(BASE_ENV, self.env).variables,
            entrypoint=tuple(entrypoint),
            cmd=tuple(cmd),
            user=f"{self.uid}",
            working_dir=self.working_dir,
            volumes=(*self.volumes, *self.base_volumes),
            exposed_ports=self.ports,
            healthcheck=Healthcheck(test=tuple(healthcheck)) if healthcheck else None,
        )
        skeleton = [*venv_skeleton(TARGET), Entry(path="app", mode=0o755, uid=self.uid), *self.files, *self.project]
        # Only files of wheels are cached.
        cache = Cache(self.wheels[0].path.parent / "cache") if self.wheels else Cache(Path("unused"))
        merged = merge_files(Filesystem(dict(self.base)), self.wheels, skeleton, TARGET, cache)
        chosen = Chosen(
            keys=frozenset({"entrypoint", "cmd", "healthcheck"}) - self.inherited,
            env=self.env,
            base_env=BASE_ENV,
            volumes=frozenset(self.volumes),
            extra=self.files,
            advisor=self.advisor,
        )
        progress, outcome = Recorder(), Outcome()
        try:
            check_runtime(config, merged, Identity(uid=self.uid, groups=self.groups), chosen, lambda key: key, progress)
        except ConfigError as error:
            outcome.errors = [f"{place}: {message}" for place, message in error.problems]
        outcome.warnings, outcome.notes = progress.warnings, progress.notes
        return outcome


def only(found: list[str]) -> str:
    assert len(found) == 1, found
    return found[0]


def elf(loader: str, machine: int = 62) -> bytes:
    """The start of a 64-bit program that names a loader."""
    text = loader.encode() + b"\0"
    header = (
        b"\x7fELF\x02\x01\x01"
        + bytes(9)
        + struct.pack("<HHIQQQIHHHHHH", 2, machine, 1, 0, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    )
    return header + struct.pack("<IIQQQQQQ", 3, 4, 120, 0, 0, len(text), len(text), 1) + text


class TestAccepted:
    @pytest.mark.parametrize(
        "command",
        [
            ["python", "-c", "print('$HOME')"],
            ["python3.13", "-m", "http.server", "80"],
            ["/app/.venv/bin/python", "-V"],
            ["env", "A=1", "python", "-uOO", "-X", "dev", "-V"],
            ["/usr/bin/env", "python", "--version"],
        ],
    )
    def test_commands_without_a_remark(self, command: list[str]) -> None:
        assert Image().check(command) == Outcome()
        assert Image().check(healthcheck=["CMD", *command]) == Outcome()
        assert Image().check((), command) == Outcome()

    def test_script_of_a_wheel(self, tmp_path: Path) -> None:
        wheel = make_prepared(tmp_path, entry_points="[console_scripts]\napp = demo:main\n")
        image = Image(wheels=[wheel], base=DISTROLESS)
        assert image.check(["/app/.venv/bin/app"]) == Outcome()
        assert image.check(["app", "--port", "80"]) == Outcome()

    def test_shell_is_not_checked_further(self) -> None:
        outcome = Image().check(["sh", "-c", "exec python $FLAGS && other"])
        assert outcome == Outcome(notes=["entrypoint: a shell runs it, so what it starts is not checked"])

    def test_nothing_starts(self) -> None:
        assert Image().check() == Outcome()
        assert Image().check(healthcheck=["NONE"]) == Outcome()

    def test_program_with_unknown_content(self) -> None:
        # A hard link, for example.
        assert Image(base={**SLIM, "usr/bin/tool": file(b"")}).check(["tool"]) == Outcome()

    @pytest.mark.parametrize(("uid", "groups", "mode"), [(0, {0}, 0o100), (7, {7}, 0o700), (8, {9}, 0o070)])
    def test_rights_by_owner_group_and_root(self, uid: int, groups: set[int], mode: int) -> None:
        base = {**SLIM, "usr/bin/tool": file(mode=mode, uid=7, gid=9)}
        assert Image(base=base, uid=uid, groups=frozenset(groups)).check(["tool"]) == Outcome()

    @pytest.mark.parametrize(
        ("uid", "groups", "mode"), [(0, {0}, 0o644), (7, {9}, 0o077), (8, {9}, 0o707), (8, {8}, 0o770)]
    )
    def test_first_class_that_fits_decides(self, uid: int, groups: set[int], mode: int) -> None:
        base = {**SLIM, "usr/bin/tool": file(mode=mode, uid=7, gid=9)}
        assert "not executable" in only(Image(base=base, uid=uid, groups=frozenset(groups)).check(["tool"]).errors)


def extra(name: str, content: bytes, mode: int = 0o755) -> Entry:
    return Entry(path=name, mode=mode, content=content)


class TestPrograms:
    @pytest.mark.parametrize(
        ("command", "message"),
        [
            (["uvicorn", "a:app"], "no package installs it: add uvicorn to the dependencies"),
            (["/app/.venv/bin/gunicorn"], "does not exist: no package installs it: add gunicorn to the dependencies"),
            (["pyhton"], "did you mean 'python'"),
            (["python app.py"], 'write each argument as a string of its own: ["python", "app.py"]'),
            (["$APP"], "nothing expands it there"),
            (["python3.12"], "the image has Python 3.13: write python"),
            (["uv", "run", "app"], "without uv run"),
            (["start.sh"], "it is in /app, which is not on PATH: write /app/start.sh"),
            (["main:app"], "it is an application"),
            (["nginx"], 'runtime-packages = ["nginx"] adds it'),
            (["/app"], "/app is a directory, not a program"),
            (["./nothing"], "/app/nothing does not exist"),
            (["/etc/x/y"], "/etc/x does not exist"),
            (["/usr/bin/env/x"], "/usr/bin/env is not a directory"),
            (["/root/tool"], "/root (mode 0700, owner 0:0) cannot be entered by the user 65532"),
            (["env", "A=1", "uvicorn"], "add uvicorn to the dependencies"),
            (["tool-of-nobody"], "no package installs it"),
        ],
    )
    def test_what_cannot_start(self, command: list[str], message: str) -> None:
        image = Image(files=[extra("app/start.sh", SHELL_SCRIPT)])
        found = only(image.check(command).errors)
        assert found.startswith("entrypoint: ")
        assert message in found
        assert only(image.check((), command).errors) == found.replace("entrypoint", "cmd", 1)

    @pytest.mark.parametrize("options", [[], ["-g"], ["-s", "--"], ["--"]])
    def test_program_behind_an_init_process(self, options: list[str]) -> None:
        image = Image(files=[extra("usr/bin/tini", STATIC)])
        assert image.check(["tini", *options, "python", "-V", "--", "--autoscale=10"]) == Outcome()
        assert "add uvicorn" in only(image.check(["tini", *options, "uvicorn"]).errors)

    @pytest.mark.parametrize(
        "wrapper",
        [
            ["timeout", "5"],
            ["timeout", "-k9", "-s", "TERM", "--verbose", "5"],
            ["timeout", "--signal=TERM", "--", "5"],
            ["nice"],
            ["nice", "-n", "5"],
            ["stdbuf", "-oL", "-e", "0"],
        ],
    )
    def test_program_behind_a_wrapper(self, wrapper: list[str]) -> None:
        image = Image(files=[extra(f"usr/bin/{wrapper[0]}", STATIC)])
        assert image.check([*wrapper, "python", "-V"]) == Outcome()
        assert "add uvicorn" in only(image.check([*wrapper, "uvicorn"]).errors)

    @pytest.mark.parametrize("command", [["nice", "-5", "uvicorn"], ["env", "PATH=/x", "uvicorn"]])
    def test_program_behind_unknown_options(self, command: list[str]) -> None:
        image = Image(files=[extra(f"usr/bin/{command[0]}", STATIC)])
        found = f"entrypoint: what /usr/bin/{command[0]} starts is not checked, since its options may change that"
        assert image.check(command) == Outcome(notes=[found])

    @pytest.mark.parametrize(
        ("content", "mode", "message"),
        [
            (SHELL_SCRIPT, 0o644, 'set mode = "0755" for it in extra-files, or chmod +x the file'),
            (SHELL_SCRIPT, 0o711, "is a script, and /app/x (mode 0711, owner 0:0) cannot be read"),
            (b"#!/bin/sh\r\necho\r\n", 0o755, "ends with CR LF"),
            (b"#!/usr/bin/env python\r\n", 0o755, "ends with CR LF"),
            (b"\xef\xbb\xbf#!/bin/sh\n", 0o755, "byte order mark"),
            (b"echo hello\n", 0o755, "neither a program nor a script"),
            (b"", 0o755, "/app/x is empty"),
            (b"#!\n", 0o755, "names no interpreter"),
            (b"#!/" + b"x" * 300 + b"\n", 0o755, "255 bytes"),
            (
                b"#!/bin/bash\n",
                0o755,
                "#!/bin/bash, and /bin/bash cannot be started: /bin/bash (/usr/bin/bash) does not",
            ),
            (b"#!/usr/bin/env bash\n", 0o755, "no program 'bash' on its PATH"),
            (b"#!/usr/bin/env python -u\n", 0o755, "no program 'python -u'"),
            (b"#!/usr/bin/env -S A=1 node x\n", 0o755, 'runtime-packages = ["nodejs"]'),
            (b"#!/root/python\n", 0o755, "/root (mode 0700, owner 0:0) cannot be entered"),
            (elf("/lib/ld-musl-x86_64.so.1"), 0o755, "linked to musl, and the image has glibc"),
            (elf("/bin/sh", machine=183), 0o755, "is a program for aarch64, and the image is for x86_64"),
            (b"MZ\x90\0", 0o755, "for Windows"),
            (b"\xcf\xfa\xed\xfe", 0o755, "for macOS"),
        ],
    )
    def test_extra_file(self, content: bytes, mode: int, message: str) -> None:
        assert message in only(Image(files=[extra("app/x", content, mode)]).check(["/app/x"]).errors)

    @pytest.mark.parametrize(
        "content",
        [
            b"#!/usr/bin/env python\n",
            b"#! /usr/bin/env -S python -u\n",
            b"#!/usr/bin/env -i python\n",
            b"#!/app/.venv/bin/python -u",
            b"#!/bin/sh -e" + b"x" * 300,
            elf("/bin/sh"),
            STATIC,
        ],
    )
    def test_extra_file_that_starts(self, content: bytes) -> None:
        outcome = Image(files=[extra("app/x", content)]).check(["./x"])
        assert (outcome.errors, outcome.warnings) == ([], [])

    @pytest.mark.parametrize("wrapper", [["env", "A=1"], ["tini", "--"], ["nohup"], ["env", "tini", "-g"]])
    @pytest.mark.parametrize("content", [b"echo hello\n", b"", b"MZqFpD='\n"])
    def test_file_without_a_first_line_behind_a_wrapper(self, wrapper: list[str], content: bytes) -> None:
        glibc = elf("/lib64/ld-linux-x86-64.so.2")
        loader = {"lib64": Node(kind="dir"), "lib64/ld-linux-x86-64.so.2": file()}
        # tini is linked statically, and may have any C library.
        base = {**SLIM, **loader, "usr/bin/env": file(glibc), "usr/bin/nohup": file(glibc), "usr/bin/tini": file()}
        image = Image(base=base, files=[extra("app/x", content)])
        outcome = image.check([*wrapper, "./x"])
        assert outcome == Outcome(notes=["entrypoint: a shell runs it, so what it starts is not checked"])
        assert len(image.check(["./x"]).errors) == 1
        shell = {path: node for path, node in base.items() if path != "usr/bin/sh"}
        found = only(Image(base=shell, files=image.files).check([*wrapper, "/app/x"]).errors)
        assert "/app/x has no first line such as #!/bin/sh, and /bin/sh cannot be started" in found
        unreadable = Image(base=base, files=[extra("app/x", content, 0o711)])
        assert "cannot be read" in only(unreadable.check([*wrapper, "./x"]).errors)

    @pytest.mark.parametrize("content", [b"MZ\x90\0", b"\xcf\xfa\xed\xfe"])
    def test_program_for_another_system_behind_a_wrapper(self, content: bytes) -> None:
        assert "is a program for" in only(Image(files=[extra("app/x", content)]).check(["env", "./x"]).errors)

    def test_musl_runs_no_file_without_a_first_line(self) -> None:
        loader = {"lib": Node(kind="dir"), "lib/ld-musl-x86_64.so.1": file()}
        base = {**SLIM, **loader, "usr/bin/env": file(elf("/lib/ld-musl-x86_64.so.1"))}
        found = only(Image(base=base, files=[extra("app/x", b"echo\n")]).check(["env", "./x"]).errors)
        assert "/app/x is neither a program nor a script" in found

    @pytest.mark.parametrize(
        ("command", "message"),
        [
            (["env", "-S", "python -u", "x"], ""),
            (["env", "-Spython -u x"], ""),
            (["env", "--split-string=A=1 python -V"], ""),
            (["env", "-S", "uvicorn 'a b'"], "add uvicorn to the dependencies"),
            (["env", "-vS", "A=1 uvicorn"], "add uvicorn to the dependencies"),
            (["env", "-S", "$PYTHON -u"], ""),
            (["env", "-S", "'gone"], ""),
            (["env", "-S", "-i gone"], ""),
            (["env", "-iS", "gone"], ""),
            (["env", "-S", "PATH=/x gone"], ""),
        ],
    )
    def test_words_that_env_splits(self, command: list[str], message: str) -> None:
        errors = Image().check(command).errors
        assert message in only(errors) if message else errors == []

    def test_busybox_s_env_splits_nothing(self) -> None:
        base = {**SLIM, "usr/bin/env": link("/usr/bin/busybox"), "usr/bin/busybox": file()}
        image = Image(base=base, files=[extra("app/x", b"#!/usr/bin/env -S python -u\n")])
        assert image.check(["env", "A=1", "python", "-V"]) == Outcome()
        assert "/usr/bin/env is busybox, whose env has no option -S" in only(image.check(["env", "-S", "sh"]).errors)
        found = only(image.check(["./x"]).errors)
        assert "#!/usr/bin/env -S python -u, and /usr/bin/env is busybox, whose env has no option -S" in found

    def test_interpreter_in_a_volume(self) -> None:
        image = Image(files=[extra("app/x", b"#!/data/python\n")], volumes=("/data",))
        outcome = image.check(["./x"])
        assert outcome.errors == []
        assert "it may be in a volume" in only(outcome.notes)

    def test_loop_of_links(self) -> None:
        assert "symbolic links" in only(Image(base={**SLIM, "x": link("y"), "y": link("x")}).check(["/x"]).errors)

    @pytest.mark.parametrize("line", [b"#!/app/x\n", b"#!/usr/bin/env /app/x\n", b"#!/usr/bin/env A=1\n"])
    def test_loop_of_interpreters(self, line: bytes) -> None:
        assert "too many interpreters" in only(Image(files=[extra("app/x", line)]).check(["/app/x"]).errors)

    @pytest.mark.parametrize("volume", ["/data", "/data/"])
    @pytest.mark.parametrize(
        ("command", "data", "env"),
        [
            ("/data/bin/tool", {}, {}),
            ("/data/tool", {"data": Node(kind="dir", mode=0o700)}, {}),
            ("/data/tool", {"data/tool": file(mode=0o644)}, {}),
            ("tool", {}, {"PATH": "/data/bin:$PATH"}),
        ],
    )
    def test_volume_may_have_it(self, volume: str, command: str, data: dict[str, Node], env: dict[str, str]) -> None:
        base = {**SLIM, "data": Node(kind="dir"), **data}
        outcome = Image(base=base, env=env, base_volumes=(volume,)).check([command])
        assert (outcome.errors, outcome.warnings) == ([], [])
        assert "may be in a volume" in only([each for each in outcome.notes if each.startswith("entrypoint")])

    def test_empty_element_of_path_is_the_working_directory(self) -> None:
        image = Image(files=[extra("app/tool", STATIC)], env={"PATH": ":/usr/bin"})
        assert image.check(["tool"]).errors == []

    def test_search_continues_after_a_file_that_cannot_be_executed(self) -> None:
        base = {**SLIM, "usr/local/bin/tool": file(mode=0o600), "usr/bin/tool": file()}
        assert Image(base=base).check(["tool"]) == Outcome()

    def test_what_the_base_starts_is_a_warning(self) -> None:
        outcome = Image(inherited=frozenset({"cmd"})).check((), ["bash"])
        assert outcome.errors == []
        assert "the base's: set entrypoint" in only(outcome.warnings)

    def test_file_of_a_wheel(self, tmp_path: Path) -> None:
        files = {"demo.py": "", "demo/tool": "#!/bin/sh\n", "demo-1.0.data/scripts/run": "#!python\n"}
        image = Image(wheels=[make_prepared(tmp_path, files=files)])
        assert image.check(["run"]) == Outcome()
        found = only(image.check(["/app/.venv/lib/python3.13/site-packages/demo/tool"]).errors)
        assert "its wheel does not mark it as executable" in found


class TestShells:
    def test_image_without_a_shell(self) -> None:
        image = Image(base=DISTROLESS)
        for outcome in (image.check(["sh", "-c", "app"]), image.check(healthcheck=["CMD-SHELL", "python -c 1"])):
            assert 'base = "debian:trixie-debug" has a shell, or write the command as a list' in only(outcome.errors)

    def test_another_shell(self) -> None:
        alpine = Image(advisor=Advisor(manager="apk"))
        found = only(alpine.check(["bash", "-c", "app"]).errors)
        assert found.endswith('write sh, which it has, or runtime-packages = ["bash"] adds it')

    def test_script_for_env_without_env(self) -> None:
        image = Image(base=DISTROLESS, files=[extra("app/x", b"#!/usr/bin/env python\n")])
        assert "name the program itself, such as #!/app/.venv/bin/python" in only(image.check(["./x"]).errors)

    @pytest.mark.parametrize("text", ["curl -f http://localhost:8000/ || exit 1", "exec curl x", "  curl; true"])
    def test_first_command_of_a_shell_is_a_warning(self, text: str) -> None:
        outcome = Image(ports=("8080/tcp",)).check(healthcheck=["CMD-SHELL", text])
        assert outcome.errors == []
        assert "no program 'curl' on its PATH, which its shell is to run" in only(outcome.warnings)

    @pytest.mark.parametrize(
        "text", ["./gone.sh", "exec ./gone.sh", ' exec ./gone.sh "$@" >/tmp/log 2>&1 ', "/app/gone.sh a\n"]
    )
    def test_missing_file_that_is_all_that_a_shell_starts(self, text: str) -> None:
        for outcome in (Image().check(["sh", "-c", text]), Image().check(["sh", "-eu", "-o", "pipefail", "-c", text])):
            assert "/app/gone.sh does not exist, which its shell is to run" in only(outcome.errors)
        assert "/app/gone.sh does not exist" in only(Image().check(healthcheck=["CMD-SHELL", text]).errors)
        inherited = Image(inherited=frozenset({"healthcheck"})).check(healthcheck=["CMD-SHELL", text])
        assert inherited.errors == []
        assert only(inherited.warnings).count("that is the base's") == 1
        assert "may be in a volume" in Image(volumes=("/app",), uid=0).check(["sh", "-c", text]).notes[0]

    @pytest.mark.parametrize(
        "command",
        [
            ["sh", "-c", "./gone.sh || exec python"],
            ["sh", "-c", "./gone.sh; python"],
            ["sh", "-c", "./gone.sh $(make-it)"],
            ["sh", "-c", "./gone.sh &\n./y"],
            ["sh", "-lc", "./gone.sh"],
            ["sh", "-c", "./broken.sh; true"],
        ],
    )
    def test_missing_file_among_others(self, command: list[str]) -> None:
        image = Image(files=[extra("app/broken.sh", b"#!/bin/bash\n")])
        outcome = image.check(command)
        assert outcome.errors == []
        assert "which its shell is to run" in only(outcome.warnings)

    @pytest.mark.parametrize("text", ["./run.sh", "exec ./plain"])
    def test_file_that_a_shell_starts(self, text: str) -> None:
        # A shell runs a file without a first line by itself.
        image = Image(files=[extra("app/run.sh", SHELL_SCRIPT), extra("app/plain", b"echo\n")])
        assert image.check(["sh", "-c", text]) == Outcome(
            notes=["entrypoint: a shell runs it, so what it starts is not checked"]
        )

    @pytest.mark.parametrize(
        "command",
        [
            ["sh", "-e"],
            ["sh", "+x"],
            ["bash", "-eu", "-o", "pipefail"],
            ["bash", "-euo", "pipefail", "--"],
            ["bash", "-O", "extglob", "+o", "posix", "-"],
            ["bash", "--norc"],
            ["busybox", "sh", "-x"],
        ],
    )
    def test_script_behind_options(self, command: list[str]) -> None:
        image = Image(base={**SLIM, "usr/bin/bash": file(), "usr/bin/busybox": file()})
        for script in ("start.sh", "/app/start.sh"):
            outcome = image.check([*command, script, "-c", "x"])
            assert f"/app/start.sh is not in the image, and {command[0]} is to run it" in only(outcome.warnings)
            present = Image(base=image.base, files=[extra("app/start.sh", b"", 0o644)])
            assert present.check([*command, script]).warnings == []

    @pytest.mark.parametrize(
        "command",
        [
            ["sh", "-s", "x"],
            ["sh", "-c"],
            ["sh"],
            ["bash", "--rcfile", "x", "y"],
            ["busybox", "httpd", "-f"],
            ["busybox"],
            ["fish", "-C", "set x", "y"],
            ["sh", "-c", "-e", "python"],
            ["sh", "env"],
        ],
    )
    def test_other_arguments_of_shells(self, command: list[str]) -> None:
        image = Image(base={**SLIM, **{f"usr/bin/{each}": file() for each in ("bash", "busybox", "fish")}})
        outcome = image.check(command)
        assert (outcome.errors, outcome.warnings) == ([], [])

    @pytest.mark.parametrize(
        "text",
        [
            "exec -a name python",
            "$CMD x",
            "A=1 curl",
            "[ -e x ]",
            "if curl; then :; fi",
            "{ curl; }",
            "f() { :; }",
            "cd x",
        ],
    )
    def test_other_texts_are_not_decided(self, text: str) -> None:
        assert Image().check(["sh", "-ec", text]).warnings == []

    @pytest.mark.parametrize(
        "command", [["sh", "/app/gone.sh"], ["python", "gone.py"], ["python", "-u", "gone.py", "x"]]
    )
    def test_missing_file_of_an_interpreter(self, command: list[str]) -> None:
        outcome = Image().check(command)
        assert outcome.errors == []
        assert f"/app/{Path(command[-1] if command[-1] != 'x' else 'gone.py').name} is not in the image" in only(
            outcome.warnings
        )

    def test_file_that_the_interpreter_cannot_read(self) -> None:
        image = Image(files=[extra("app/main.py", b"", 0o600)])
        assert "/app/main.py (mode 0600, owner 0:0) cannot be read" in only(image.check(["python", "main.py"]).errors)

    @pytest.mark.parametrize("arguments", [["--port", "$PORT"], ["${HOST}:80"], ["x", "&&", "y"]])
    def test_what_only_a_shell_understands(self, arguments: list[str]) -> None:
        outcome = Image().check(["python", "-V", *arguments])
        assert "no shell runs it" in only(outcome.warnings)

    def test_python_of_the_base(self) -> None:
        assert "write python" in only(Image().check(["/usr/local/bin/python3", "-V"]).warnings)


class TestModules:
    def test_missing(self) -> None:
        assert "the image has no module 'uvicorn'" in only(Image().check(["python", "-m", "uvicorn", "a:b"]).warnings)

    @pytest.mark.parametrize(
        ("env", "volumes", "path"),
        [
            ({}, (), "app/.venv/lib/python3.13/site-packages/demo.py"),
            ({}, (), "app/.venv/lib/python3.13/site-packages/demo.cpython-313-x86_64-linux-gnu.so"),
            ({}, (), "app/.venv/lib/python3.13/site-packages/demo/__main__.pyc"),
            ({}, (), "app/demo.py"),
            ({"PYTHONPATH": "/srv"}, (), "srv/demo.py"),
            ({"PYTHONPATH": "/mounted"}, (), "x"),
            ({}, ("/app",), "x"),
            ({}, (), "app/.venv/lib/python3.13/site-packages/editable.pth"),
        ],
    )
    def test_present_or_unknown(self, env: dict[str, str], volumes: tuple[str, ...], path: str) -> None:
        image = Image(env=env, base_volumes=volumes, files=[extra(path, b"", 0o644)])
        assert not any("module" in each for each in image.check(["python", "-um", "demo"]).warnings)

    @pytest.mark.parametrize(
        ("module", "message"),
        [
            (
                "demo",
                "the package 'demo' has no __main__, which python -m is to run: add it, or name one of its modules",
            ),
            ("demo.nothing", "the package 'demo' has no module 'nothing', which python -m is to run: name another"),
            ("demo.sub.nothing", "the package 'demo.sub' has no module 'nothing'"),
            ("demo.cli.x", "'demo.cli' is a module, not a package, and python -m is to run 'demo.cli.x'"),
            ("space", "the package 'space' has no __main__"),
            ("demo.cli", ""),
            ("demo.native", ""),
            ("demo.sub", ""),
            ("space.part", ""),
            ("not-a-name", ""),
        ],
    )
    def test_of_packages(self, module: str, message: str) -> None:
        names = (
            "demo/__init__.py",
            "demo/cli.py",
            "demo/native.abi3.so",
            "demo/sub/__init__.py",
            "demo/sub/__main__.py",
        )
        files = [extra(f"{SITE}/{name}", b"", 0o644) for name in (*names, "space/part.py")]
        warnings = Image(files=files).check(["python", "-m", module]).warnings
        assert message in only(warnings) if message else not warnings

    def test_working_directory_comes_first_unless_that_is_safe(self) -> None:
        image = Image(files=[extra(f"{SITE}/demo/__main__.py", b""), extra("app/demo/__init__.py", b"")])
        assert "has no __main__" in only(image.check(["python", "-m", "demo"]).warnings)
        assert image.check(["python", "-Im", "demo"]) == image.check(["python", "-P", "-m", "demo"]) == Outcome()
        assert replace(image, env={"PYTHONSAFEPATH": "1"}).check(["python", "-m", "demo"]) == Outcome()

    def test_of_the_variable_unless_it_does_not_count(self) -> None:
        image = Image(env={"PYTHONPATH": "/srv"}, files=[extra("srv/demo.py", b"")])
        assert image.check(["python", "-m", "demo"]) == image.check(["python", "-Pm", "demo"]) == Outcome()
        assert "no module 'demo'" in only(image.check(["python", "-Em", "demo"]).warnings)

    def test_of_the_base_s_own_python(self) -> None:
        assert "which does not find the packages" in only(
            Image().check(["/usr/local/bin/python3.13", "-m", "demo"]).warnings
        )


class TestHealthchecks:
    def test_curl(self) -> None:
        outcome = Image().check(healthcheck=["CMD", "curl", "-f", "http://localhost:9/x"])
        found = only(outcome.errors)
        assert (
            "healthcheck: the image has no program 'curl' on its PATH: runtime-packages = [\"curl\"] adds it" in found
        )
        assert "r.urlopen('http://localhost:9/x', timeout=3)" in found

    def test_port_of_the_image(self) -> None:
        image = Image(advisor=Advisor(port="8080"))
        assert "http://localhost:8080/" in only(image.check(healthcheck=["CMD", "wget"]).errors)

    @pytest.mark.parametrize("word", ["CMD", "CMD-SHELL", "NONE"])
    def test_instruction_of_a_dockerfile(self, word: str) -> None:
        assert f"without {word}" in only(Image().check(healthcheck=["CMD", word, "python"]).errors)

    def test_shell_of_the_base_s(self) -> None:
        outcome = Image(inherited=frozenset({"healthcheck"})).check(healthcheck=["CMD-SHELL", "curl -f x || exit 1"])
        assert "that is the base's: set healthcheck" in only(outcome.warnings)
        assert (outcome.errors, outcome.notes) == ([], [])

    def test_that_of_the_base_is_a_warning(self) -> None:
        image = Image(inherited=frozenset({"healthcheck"}), base=DISTROLESS)
        outcome = image.check(healthcheck=["CMD-SHELL", "curl x"])
        assert outcome.errors == []
        assert "the base's" in only(outcome.warnings)


class TestPython:
    @pytest.mark.parametrize(
        "changed",
        [
            {"usr/local": Node(kind="dir", mode=0o700)},
            {"usr/local/lib/python3.13": Node(kind="dir", mode=0o750)},
            {"usr/local/lib/python3.13/os.py": file(mode=0o600)},
            {"usr/local/bin/python3.13": file(mode=0o750)},
        ],
    )
    def test_user_cannot_use_the_base_s(self, changed: dict[str, Node]) -> None:
        image = Image(base={**SLIM, **changed})
        found = only(image.check(["python"]).errors)
        assert found.startswith("user: it cannot use the base's Python, /usr/local/bin/python3.13: /usr/local")
        assert "set user = 0" in found
        assert Image(base=image.base, uid=0).check(["python"]) == Outcome()


class TestDirectories:
    def test_files_are_no_directories(self) -> None:
        with pytest.raises(ConfigError) as caught:
            check_directories(Filesystem(SLIM), "/usr/bin/env", ["/bin/sh/x", "/bin", "/new/x"], lambda key: key)
        assert caught.value.problems == [
            ("working-dir", "/usr/bin/env is a file of the base image: name a directory"),
            ("volumes", "/bin/sh/x cannot be a directory: /usr/bin/dash is not a directory"),
        ]

    @pytest.mark.parametrize("volume", ["/app", "/app/", "/app/.venv", "/app/.venv/lib/python3.13", "/link"])
    def test_volume_over_the_venv(self, tmp_path: Path, volume: str) -> None:
        wheels, base = [make_prepared(tmp_path)], {**SLIM, "link": link("app")}
        outcome = Image(base=base, wheels=wheels, volumes=(volume,)).check()
        assert outcome.errors == []
        assert "volumes: " + volume in outcome.warnings[0]
        assert "holds packages in /app/.venv: a new volume gets a copy of them" in outcome.warnings[0]
        assert "name the directory that the program writes to" in only(outcome.warnings)
        inherited = only(Image(base=base, wheels=wheels, base_volumes=(volume,)).check().warnings)
        assert inherited.endswith("it is the base's, and cannot be removed")

    def test_volume_over_the_project(self) -> None:
        found = only(Image(project=[extra("app/shop/main.py", b"")], volumes=("/app/shop",)).check().warnings)
        assert "/app/shop holds files of the project, such as /app/shop/main.py: a new volume" in found

    def test_volume_on_a_file_of_the_project(self) -> None:
        image = Image(project=[extra("app/main.py", b"")], volumes=("/app/main.py",), uid=0)
        assert image.check() == Outcome(errors=["volumes: /app/main.py is a file of the image: name a directory"])

    def test_volume_with_files_to_begin_with(self) -> None:
        image = Image(files=[extra("app/data/seed.json", b"")], volumes=("/app/data",), uid=0)
        assert image.check() == Outcome()

    @pytest.mark.parametrize(("mode", "uid", "gid"), [(0o755, 0, 0), (0o755, 9, 65532), (0o666, 9, 9)])
    def test_volume_of_somebody_else(self, mode: int, uid: int, gid: int) -> None:
        base = {**SLIM, "data": Node(kind="dir", mode=mode, uid=uid, gid=gid)}
        outcome = Image(base=base, volumes=("/data",)).check()
        assert (outcome.errors, outcome.warnings) == ([], [])
        assert only(outcome.notes).startswith(f"volumes: /data (mode {mode:04o}, owner {uid}:{gid}) cannot be written")
        assert "the base's" in only(Image(base=base, base_volumes=("/data",)).check().notes)
        assert Image(base=base, volumes=("/data",), uid=0).check() == Outcome()

    @pytest.mark.parametrize(("mode", "uid", "gid"), [(0o755, 65532, 0), (0o775, 0, 65532), (0o1777, 0, 0)])
    def test_volume_of_the_user(self, mode: int, uid: int, gid: int) -> None:
        base = {**SLIM, "data": Node(kind="dir", mode=mode, uid=uid, gid=gid)}
        assert Image(base=base, volumes=("/data",)).check() == Outcome()

    def test_other_volumes(self) -> None:
        assert Image(volumes=("/app/data", "/apps", "/data")).check() == Outcome()


class TestExtraFiles:
    def own(self, folder: Path, **more: Any) -> PreparedWheel:
        return replace(make_prepared(folder, **more), own=True)

    @pytest.mark.parametrize("path", ["app/demo.py", "app/demo/__init__.py", "app/demo.abi3.so", "app/demo.pyc"])
    @pytest.mark.parametrize("command", [["python", "-m", "demo"], ["python", "-uc", "0"], ["python", "x.py"]])
    def test_never_shadow_the_project_s_modules(self, command: list[str], path: str, tmp_path: Path) -> None:
        files = [extra(path, b"", 0o644), extra("app/x.py", b"", 0o644)]
        image = Image(wheels=[self.own(tmp_path)], files=files)
        assert only(image.check(command).errors) == (
            f"extra-files: /{path} shadows the module demo of the project: put it elsewhere, or set "
            'PYTHONSAFEPATH = "1" in env'
        )
        assert image.check(["python", "-I", *command[1:]]) == Outcome()
        assert replace(image, env={"PYTHONSAFEPATH": "1"}).check(command) == Outcome()

    def test_that_a_script_may_find_are_a_warning(self, tmp_path: Path) -> None:
        own = self.own(tmp_path, entry_points="[console_scripts]\napp = demo:main\n")
        image = Image(wheels=[own], files=[extra("app/demo.py", b"", 0o644)])
        assert only(image.check(["app"]).warnings).startswith(
            "extra-files: /app/demo.py shadows the module demo of the project if a program looks in /app first: "
        )
        assert image.check(["sh", "x"]).warnings != []
        assert (
            image.check(["/usr/bin/env"])
            == replace(image, inherited=frozenset({"cmd"})).check((), ["app"])
            == Outcome()
        )

    def test_that_shadow_modules_of_others_are_a_warning(self, tmp_path: Path) -> None:
        files = [extra("srv/demo.py", b"", 0o644)]
        image = Image(wheels=[make_prepared(tmp_path)], files=files, env={"PYTHONPATH": "/srv"})
        warning = only(image.check(["python", "-Pc", "0"]).warnings)
        assert warning.startswith("extra-files: /srv/demo.py shadows the module demo of demo: ")
        assert image.check(["python", "-Ec", "0"]) == Outcome()
        both = replace(image, files=[*files, extra("app/demo.py", b"", 0o644)])
        assert "/app" not in only(both.check(["python", "-Pc", "0"]).warnings)

    def test_that_are_found_beside_a_script(self, tmp_path: Path) -> None:
        files = [extra("srv/demo.py", b"", 0o644), extra("srv/x.py", b"", 0o644), extra("srv/__main__.py", b"", 0o644)]
        links = [Entry(path="app/y.py", link="../srv/x.py")]
        image = Image(wheels=[self.own(tmp_path)], files=files, project=links)
        for script in ("/srv/x.py", "/srv", "y.py"):
            assert "/srv/demo.py shadows" in only(image.check(["python", script]).errors)
        assert image.check(["python", "/srv/x.pyz"]).errors == []

    @pytest.mark.parametrize(
        "path",
        ["app/demo/data.json", "app/demo/x.py", "app/templates/demo.py", "app/demo.txt", "app/demo.conf.py", "demo.py"],
    )
    def test_that_shadow_nothing(self, path: str, tmp_path: Path) -> None:
        image = Image(wheels=[make_prepared(tmp_path)], files=[extra(path, b"", 0o644)])
        assert image.check(["python", "-c", "0"]) == Outcome()
        assert replace(image, base_volumes=("/app",), files=[extra("app/demo.py", b"")]).check(["python"]).errors == []

    def test_copies_of_what_a_wheel_has(self, tmp_path: Path) -> None:
        wheel = self.own(tmp_path, files={"demo/__init__.py": "", "demo/cli.py": "1"})
        copies = [extra("app/demo/__init__.py", b"", 0o644), extra("app/demo/cli.py", b"1", 0o644)]
        more = extra("app/demo/more.py", b"", 0o644)
        assert Image(wheels=[wheel], files=[*copies, more]).check(["python", "-m", "demo.cli"]) == Outcome()
        assert "shadows" in only(Image(wheels=[wheel], files=copies[:1]).check(["python", "-m", "demo"]).errors)

    def test_unreadable(self) -> None:
        files = [extra(f"etc/{number}", b"", 0o600) for number in range(5)]
        warning = only(Image(files=files).check().warnings)
        assert warning.startswith("extra-files: /etc/0 (mode 0600, owner 0:0), /etc/1")
        assert "and 2 more cannot be read by the image's user: set owner, or another mode" in warning
        assert Image(files=files, uid=0).check() == Outcome()


def test_literal_references_are_warned_about() -> None:
    outcome = Image(env={"DATA": "${HOME}/data"}).check()
    assert only(outcome.warnings).startswith(
        "env: in DATA, ${HOME} stays as it is, since engines expand nothing: write its"
    )
