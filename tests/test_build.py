"""Whole builds through Hatch: the contents of images, the reports, and that builds are reproducible."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from base_maker import FakeBase, serve
from builds import Bench, Made, archive_of, build, check_archive, environment, read, result_of, start, wait_for
from fake_registry import FakeRegistry
from project_maker import lock_of

from hatch_docker.config.keys import KEYS
from hatch_docker.support.flocks import try_lock

SITE = "app/.venv/lib/python3.13/site-packages"
MTIME = 315619200


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


class TestImage:
    def test_has_a_venv_of_the_project_and_its_dependencies(self, bench: Bench) -> None:
        alpha = bench.wheel("alpha", entry_points="[console_scripts]\nalpha-tool = alpha:main\n")
        made = bench.made(bench.project(wheels=[alpha]))
        assert made.text(f"{SITE}/alpha.py") == "VERSION = '1.0'\n"
        assert made.text(f"{SITE}/shop/__init__.py").startswith("def main()")
        assert made.text(f"{SITE}/alpha-1.0.dist-info/INSTALLER") == "hatch-docker\n"
        links = {name: made.members[f"app/.venv/bin/{name}"].linkname for name in ("python", "python3", "python3.13")}
        assert links == {"python": "/usr/local/bin/python3.13", "python3": "python", "python3.13": "python"}
        config = dict(line.split(" = ") for line in made.text("app/.venv/pyvenv.cfg").splitlines())
        assert config["home"] == "/usr/local/bin"
        assert config["version"] == "3.13.5"
        assert config["include-system-site-packages"] == "false"

    def test_scripts_start_the_venv_s_python(self, bench: Bench) -> None:
        alpha = bench.wheel("alpha", entry_points="[console_scripts]\nalpha-tool = alpha:main\n")
        made = bench.made(bench.project(wheels=[alpha]))
        for script, imported in (("alpha-tool", "from alpha import main"), ("shop", "from shop import main")):
            assert made.text(f"app/.venv/bin/{script}").startswith("#!/app/.venv/bin/python\n")
            assert imported in made.text(f"app/.venv/bin/{script}")
            assert made.members[f"app/.venv/bin/{script}"].mode == 0o755

    def test_all_layers_have_one_owner_and_one_time(self, bench: Bench) -> None:
        made = bench.made(bench.project(wheels=[bench.wheel("alpha")]))
        added = [made.members[name] for layer in made.layers[1:] for name in layer]
        assert {each.mtime for each in added} == {MTIME}
        user_s = {each.name: (each.uid, each.gid, each.mode) for each in added if (each.uid, each.gid) != (0, 0)}
        assert user_s == dict.fromkeys(("app", "home/nonroot"), (65532, 0, 0o775))
        others = [each for each in added if each.name not in user_s]
        assert {each.mode for each in others} == {0o644, 0o755, 0o777}
        assert all(each.mode == 0o755 for each in others if each.isdir())

    def test_project_s_layer_is_last_and_each_layer_has_its_parent_directories(self, bench: Bench) -> None:
        made = bench.made(bench.project(wheels=[bench.wheel("alpha")]))
        base, wheels, own = made.layers
        assert "usr/local/bin/python3.13" in base
        assert f"{SITE}/alpha.py" in wheels
        assert f"{SITE}/shop/__init__.py" in own
        for layer in (wheels, own):
            assert all(str(Path(name).parent) in {".", *layer} for name in layer)

    def test_runs_the_only_script_as_an_unprivileged_user_in_app(self, bench: Bench) -> None:
        made = bench.made(bench.project())
        assert made.config["Entrypoint"] == ["/app/.venv/bin/shop"]
        assert "Cmd" not in made.config, "the base's command is dropped"
        assert made.config["User"] == "65532:65532"
        assert made.config["WorkingDir"] == "/app"
        assert made.members["app"].isdir()
        assert made.env == {
            "PATH": "/app/.venv/bin:/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin",
            "LANG": "C.UTF-8",
            "PYTHONUNBUFFERED": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def test_labels_and_annotations_describe_the_project(self, bench: Bench) -> None:
        project = """\
description = "Sells things"
license = "MIT"
authors = [{name = "Rosa"}, {name = "Karl", email = "karl@shop.example"}]
urls = {Homepage = "https://shop.example", "Source Code" = "https://code.example/shop"}
"""
        base = bench.base(FakeBase(config={"Labels": {"org.opencontainers.image.title": "base", "tier": "gold"}}))
        made = bench.made(
            bench.project(base=base, project=project, docker='labels = {team = "a"}\nannotations = {b = "c"}')
        )
        described = {
            "org.opencontainers.image.title": "shop",
            "org.opencontainers.image.version": "1.0",
            "org.opencontainers.image.description": "Sells things",
            "org.opencontainers.image.licenses": "MIT",
            "org.opencontainers.image.authors": "Rosa, Karl <karl@shop.example>",
            "org.opencontainers.image.url": "https://shop.example",
            "org.opencontainers.image.source": "https://code.example/shop",
            "org.opencontainers.image.created": "1970-01-01T00:00:00Z",
        }
        assert made.config["Labels"] == {**described, "team": "a", "tier": "gold"}
        assert made.manifest["annotations"] == {**described, "b": "c"}

    def test_keeps_the_history_and_config_of_the_base(self, bench: Bench) -> None:
        base = bench.base(FakeBase(config={"ExposedPorts": {"9000/tcp": {}}, "StopSignal": "SIGINT"}))
        made = bench.made(bench.project(base=base, docker="ports = [8000]"))
        assert made.document["history"][0] == {"created_by": "a test"}
        assert [step["created_by"] for step in made.document["history"][1:]] == ["hatch-docker: shop 1.0"]
        assert set(made.config["ExposedPorts"]) == {"8000/tcp", "9000/tcp"}
        assert made.config["StopSignal"] == "SIGINT"

    def test_musl_base_gets_musl_wheels(self, bench: Bench) -> None:
        tags = ("cp313-cp313-manylinux_2_17_x86_64", "cp313-cp313-musllinux_1_2_x86_64")
        wheels = [
            bench.wheel(
                "alpha",
                files={"alpha_kind.py": tag},
                filename=f"alpha-1.0-{tag}.whl",
                wheel=f"Wheel-Version: 1.0\nRoot-Is-Purelib: false\nTag: {tag}\n",
            )
            for tag in tags
        ]
        lock = lock_of(wheels[0]) + lock_of(wheels[1]).partition("[[packages]]")[2].partition('version = "1.0"\n')[2]
        for folder, libc, tag in (("glibc", "glibc", tags[0]), ("musl", "musl", tags[1])):
            project = bench.project(folder, base=bench.base(FakeBase(libc=libc)), wheels=wheels, dependencies=["alpha"])
            (project / "pylock.toml").write_text(lock)
            assert bench.made(project).text(f"{SITE}/alpha_kind.py") == tag

    def test_is_for_the_configured_platform(self, bench: Bench) -> None:
        both = bench.base(FakeBase(architecture="amd64"), FakeBase(architecture="arm64"))
        project = bench.project(base=both)
        assert bench.made(project).document["architecture"] == "amd64"
        assert bench.made(project, HATCH_DOCKER_PLATFORMS="linux/arm64").document["architecture"] == "arm64"
        assert result_of(project)["platform"] == "linux/arm64"

    def test_prunes_unused_files_of_dependencies_and_reports_them(self, bench: Bench) -> None:
        files = {
            "alpha_lib/__init__.py": "x = 1\n",
            "alpha_lib/tests/test_it.py": "from alpha_lib import x\n\ndef test_x():\n    assert x\n",
            "alpha_lib/fast.so": "",
            "alpha_lib/fast.c": "int x;\n",
            "alpha_lib/fast.a": "",
            "alpha_lib/fast.h": "",
        }
        own = {"src/shop/tests/test_it.py": files["alpha_lib/tests/test_it.py"].replace("alpha_lib", "shop")}
        project = bench.project(wheels=[bench.wheel("alpha", files=files)], files=own)
        outcome = bench.build(project)
        assert outcome.code == 0, outcome.err
        lean, result = read(archive_of(project)), result_of(project)
        whole = bench.made(project, HATCH_DOCKER_PRUNE="[]")
        pruned = {f"{SITE}/alpha_lib/{name}" for name in ("tests", "tests/test_it.py", "fast.c", "fast.a")}
        assert {each for each in whole.members.keys() - lean.members.keys() if "__pycache__" not in each} == pruned
        assert f"{SITE}/shop/tests/test_it.py" in lean.members
        assert "tests/test_it.py" not in lean.text(f"{SITE}/alpha-1.0.dist-info/RECORD")
        size = sum(len(files[f"alpha_lib/{name}"]) for name in ("tests/test_it.py", "fast.c"))
        assert f"\n  pruned {size} B: alpha {size} B\n" in outcome.err
        rules = {"c-sources": 7, "static-libraries": 0, "tests": size - 7}
        assert result["pruned-files"] == [{"name": "alpha", "version": "1.0", "size": size, "rules": rules}]
        assert "pruned" not in bench.build(project, HATCH_DOCKER_PRUNE="[]").err

    @pytest.mark.parametrize(
        "docker",
        [
            'cmd = ["python", "-m", "alpha_lib.tests.helper"]',
            'env = {PLUGIN = "alpha_lib.tests.helper"}',
            'cmd = ["python", "-m", "unittest", "discover", "/app"]',
            'extra-files = [{from = "conf", into = "/conf"}]',
            'extra-files = [{from = "conf/plugins.ini", into = "/plugins.ini"}]',
        ],
    )
    def test_tests_that_the_image_uses_stay(self, bench: Bench, docker: str) -> None:
        files = {
            "alpha_lib/__init__.py": "x = 1\n",
            "alpha_lib/tests/helper.py": "",
            "alpha_lib/tests/test_it.py": "from alpha_lib import x\nfrom . import helper\ndef test(): assert x\n",
        }
        conf = {"conf/plugins.ini": "[plugins]\nalpha = alpha_lib.tests.helper\n"}
        project = bench.project(wheels=[bench.wheel("alpha", files=files)], files=conf, docker=docker)
        assert f"{SITE}/alpha_lib/tests/test_it.py" in bench.made(project).members

    def test_warns_if_two_wheels_install_one_path(self, bench: Bench) -> None:
        wheels = [bench.wheel(name, files={"shared.py": name}) for name in ("alpha", "beta")]
        outcome = bench.build(project := bench.project(wheels=wheels))
        assert "warning: alpha and beta both install" in outcome.err
        assert outcome.code == 0
        check_archive(archive_of(project), bench.root / "scratch")
        quiet, silent = (bench.build(project, HATCH_QUIET=level) for level in "12")
        assert [line.split()[:2] for line in quiet.err.splitlines()] == [["warning:", "alpha"]]
        assert silent.err == ""


class TestProject:
    def test_without_dependencies_lock_and_scripts(self, bench: Bench) -> None:
        made = bench.made(bench.project(scripts={}, dependencies=[]))
        assert "Entrypoint" not in made.config
        assert made.config["Cmd"] == ["python3"]
        assert len(made.layers) == 2

    def test_with_shared_data_and_scripts(self, bench: Bench) -> None:
        wheel = """\
[tool.hatch.build.targets.wheel.shared-data]
"etc/shop.toml" = "etc/shop.toml"
[tool.hatch.build.targets.wheel.shared-scripts]
"tools/count" = "count"
"""
        files = {"etc/shop.toml": "open = true\n", "tools/count": "#!/usr/bin/env python\nprint(1)\n"}
        made = bench.made(bench.project(wheel=wheel, files=files, docker='entrypoint = "count"'))
        assert made.text("app/.venv/etc/shop.toml") == "open = true\n"
        assert made.text("app/.venv/bin/count").endswith("print(1)\n")
        assert made.members["app/.venv/bin/count"].mode == 0o755
        assert made.config["Entrypoint"] == ["/app/.venv/bin/count"]

    def test_with_a_name_that_is_not_normalized(self, bench: Bench) -> None:
        project = bench.project(name="My_Shop.Net", scripts={"my-shop-net": "my_shop:main", "x": "my_shop:x"})
        (project / "src" / "My_Shop.Net").rename(project / "src" / "My_Shop_Net")
        text = (project / "pyproject.toml").read_text().replace("src/My_Shop.Net", "src/My_Shop_Net")
        (project / "pyproject.toml").write_text(text)
        made = bench.made(project)
        assert archive_of(project).name == "my_shop_net-1.0.docker.tar"
        assert made.config["Entrypoint"] == ["/app/.venv/bin/my-shop-net"]

    def test_with_extras_and_dependency_groups(self, bench: Bench) -> None:
        names = ("alpha", "beta", "gamma", "delta")
        project = bench.project(
            wheels=[bench.wheel(name) for name in names],
            dependencies=["alpha"],
            project='optional-dependencies = {fast = ["beta", "shop[faster]"], faster = ["gamma"]}',
            more='[dependency-groups]\nserver = ["delta"]',
        )
        lock = (project / "pylock.toml").read_text()
        for name, marker in (
            ("beta", "'fast' in extras"),
            ("gamma", "'fast' in extras"),
            ("delta", "'server' in dependency_groups"),
        ):
            lock = lock.replace(f'name = "{name}"', f'name = "{name}"\nmarker = "{marker}"')
        lock = lock.replace("\n\n", '\nextras = ["fast", "faster"]\ndependency-groups = ["server"]\n\n', 1)
        (project / "pylock.toml").write_text(lock)

        def installed(**env: str) -> set[str]:
            made = bench.made(project, **env)
            return {name for name in names if f"{SITE}/{name}.py" in made.members}

        assert installed() == {"alpha"}
        assert installed(HATCH_DOCKER_EXTRAS="fast") == {"alpha", "beta", "gamma"}
        assert installed(HATCH_DOCKER_DEPENDENCY_GROUPS="server") == {"alpha", "delta"}

    def test_without_a_table(self, bench: Bench) -> None:
        project = bench.project()
        text = (project / "pyproject.toml").read_text()
        (project / "pyproject.toml").write_text(re.sub(r"\[tool\.hatch\.build\.targets\.docker\][^\[]*", "", text))
        made = bench.made(project, HATCH_DOCKER_BASE=f"oci:{bench.base()}", HATCH_DOCKER_PLATFORMS="linux/amd64")
        assert made.config["Entrypoint"] == ["/app/.venv/bin/shop"]

    @pytest.mark.parametrize(
        ("mains", "docker", "entrypoint"),
        [
            (["shop"], "", ["/app/.venv/bin/python", "-m", "shop"]),
            (["shop/deep/er"], "", ["/app/.venv/bin/python", "-m", "shop.deep.er"]),
            (["shop"], 'cmd = ["python", "-V"]', None),
            (["shop", "shop/deep"], "", None),
            ([], "", None),
        ],
    )
    def test_without_scripts_starts_its_main_module(
        self, bench: Bench, mains: list[str], docker: str, entrypoint: list[str] | None
    ) -> None:
        files = {f"src/{package}/__main__.py": "" for package in mains}
        project = bench.project(scripts={}, files=files, docker=docker)
        outcome = bench.build(project)
        assert read(archive_of(project)).config.get("Entrypoint") == entrypoint
        assert ("no entrypoint" in outcome.err) == (entrypoint is None and not docker)


class TestExtraFiles:
    FILES: ClassVar = {"conf/a.toml": "a", "conf/deep/b.toml": "b", "conf/deep/c.txt": "c", "run.sh": "#!/bin/sh\n"}

    def made(self, bench: Bench, tables: str, base: FakeBase | None = None, **options: Any) -> Made:
        return bench.made(
            bench.project(
                base=bench.base(base or FakeBase()), docker=f"extra-files = [{tables}]", files=self.FILES, **options
            )
        )

    def test_into_names_files_and_directories(self, bench: Bench) -> None:
        made = self.made(bench, '{from = "conf", into = "/etc/shop"}, {from = "run.sh", into = "/usr/local/bin/run"}')
        assert made.text("etc/shop/a.toml") == "a"
        assert made.text("etc/shop/deep/b.toml") == "b"
        assert made.text("usr/local/bin/run") == "#!/bin/sh\n"
        assert len(made.layers) == 3

    def test_include_and_exclude_select_files(self, bench: Bench) -> None:
        made = self.made(bench, '{from = "conf", into = "/etc/shop", include = ["*.toml"], exclude = ["a.*"]}')
        assert [name for name in made.members if made.members[name].isreg() and "etc/shop" in name] == [
            "etc/shop/deep/b.toml"
        ]

    def test_mode_and_owner(self, bench: Bench) -> None:
        made = self.made(bench, '{from = "conf", into = "/etc/shop", mode = "0600", owner = "1000:1001"}')
        member = made.members["etc/shop/a.toml"]
        assert (member.mode, member.uid, member.gid) == (0o600, 1000, 1001)

    def test_keep_the_executable_bit(self, bench: Bench) -> None:
        project = bench.project(
            docker='extra-files = [{from = ".", into = "/x", include = ["run.sh", "conf"]}]', files=self.FILES
        )
        (project / "run.sh").chmod(0o700)
        (project / "conf/a.toml").chmod(0o600)
        made = bench.made(project)
        assert made.members["x/run.sh"].mode == 0o755
        assert made.members["x/conf/a.toml"].mode == 0o644

    def test_follow_links_of_the_base(self, bench: Bench) -> None:
        base = FakeBase(links={"data": "/srv/data", "srv/data": "../mnt"}, folders={"mnt": 0o700})
        made = self.made(bench, '{from = "conf", into = "/lib/shop"}, {from = "conf", into = "/data/shop"}', base)
        assert {"usr/lib/shop/a.toml", "mnt/shop/a.toml"} <= made.members.keys()
        assert made.members["lib"].issym()
        assert made.members["data"].issym()
        assert not any(name.startswith(("lib/", "data/", "srv/data/")) for name in made.members)

    def test_do_not_change_directories_of_the_base(self, bench: Bench) -> None:
        made = self.made(bench, '{from = "conf", into = "/srv"}, {from = "conf", into = "/tmp/x"}')
        assert made.members["srv"].mode == 0o750
        assert made.members["tmp"].mode == 0o1777
        assert {"srv", "tmp"} & set(made.layers[1]) == {"srv", "tmp"}, "Docker's overlay2 makes them root's otherwise"
        assert not any("usr" in layer for layer in made.layers[1:]), "only those with another mode or owner than 0755"

    def test_later_tables_win(self, bench: Bench) -> None:
        tables = '{from = "conf/a.toml", into = "/x"}, {from = "conf/deep/b.toml", into = "/x"}'
        assert self.made(bench, tables).text("x") == "b"

    @pytest.mark.parametrize("into", ["/app", "/app/.venv", "/data"])
    def test_must_not_replace_a_directory_of_the_build(self, bench: Bench, into: str) -> None:
        docker = f'volumes = ["/data"]\nextra-files = [{{from = "run.sh", into = "{into}"}}]'
        outcome = bench.build(bench.project(docker=docker, files=self.FILES))
        assert outcome.code == 1
        assert f"extra-files[0].into: {into} is a directory" in outcome.err


class TestVolumesAndWorkingDirectory:
    def test_volumes_belong_to_the_user(self, bench: Bench) -> None:
        made = bench.made(bench.project(docker='volumes = ["/var/lib/shop", "/srv"]\nuser = "1000:2000"'))
        member = made.members["var/lib/shop"]
        assert (member.isdir(), member.mode, member.uid, member.gid) == (True, 0o755, 1000, 2000)
        assert set(made.config["Volumes"]) == {"/var/lib/shop", "/srv"}
        assert made.members["srv"].uid == 0, "it is the base's"

    def test_a_user_by_name_is_the_base_s_or_added_and_owns_volumes(self, bench: Bench) -> None:
        passwd = b"db:x:70:71::/srv:/bin/sh\n"
        base = bench.base(FakeBase(files={"usr/etc/passwd": passwd}, links={"etc/passwd": "../usr/etc/passwd"}))
        made = bench.made(bench.project(base=base, docker='volumes = ["/data"]\nuser = "db"'))
        assert (made.members["data"].uid, made.members["data"].gid, made.config["User"]) == (70, 71, "db")
        outcome = bench.build(project := bench.project("new", base=base, docker='volumes = ["/data"]\nuser = "new"'))
        assert "warning: tool.hatch.build.targets.docker.user: the base image has no user 'new'" in outcome.err
        made = bench.made(project)
        assert (made.members["data"].uid, made.config["User"]) == (1000, "new")
        assert made.text("usr/etc/passwd").startswith(passwd.decode())
        assert "\nnew:*:1000:1000:new:/home/new:" in made.text("usr/etc/passwd")
        assert "HOME" not in made.env

    def test_extra_files_may_have_the_accounts(self, bench: Bench) -> None:
        mine = "nonroot:x:65532:65532:mine:/home/nonroot:/bin/sh\n"
        docker = 'extra-files = [{from = "passwd", into = "/etc/passwd"}]'
        made = bench.made(bench.project(docker=docker, files={"passwd": mine}))
        assert made.text("etc/passwd") == mine
        assert made.text("etc/group") == "nonroot:x:65532:\n"

    def test_working_directory_exists(self, bench: Bench) -> None:
        made = bench.made(bench.project(docker='working-dir = "/lib/work"'))
        assert made.config["WorkingDir"] == "/lib/work"
        assert made.members["usr/lib/work"].isdir()


class TestLayers:
    @pytest.mark.parametrize("budget", [3, 4, 8, 40])
    def test_do_not_exceed_max_layers(self, bench: Bench, budget: int) -> None:
        wheels = [bench.wheel(f"pkg{number}") for number in range(9)]
        noise = os.urandom(1_200_000)
        wheels += [bench.wheel(f"big{number}", files={f"big{number}.bin": noise}) for number in range(3)]
        docker = f'max-layers = {budget}\nextra-files = [{{from = "pyproject.toml", into = "/x"}}]'
        made = bench.made(bench.project(wheels=wheels, docker=docker))
        assert len(made.layers) - 1 <= budget
        names = [name for layer in made.layers[1:] for name in layer if not made.members[name].isdir()]
        assert len(names) == len(set(names))

    def test_two_projects_share_layers_of_the_same_wheels(self, bench: Bench) -> None:
        noise = os.urandom(1_200_000)
        big = bench.wheel("big", files={"big.bin": noise})
        wheels = [big, bench.wheel("alpha"), bench.wheel("delta")]
        one = bench.project("one", name="one", wheels=wheels, docker="user = 7")
        two = bench.project("two", name="two", wheels=wheels, docker='working-dir = "/w"')
        layers = []
        for number, project in enumerate((one, two)):
            bench.made(project, HATCH_DOCKER_CACHE_DIR=str(bench.root / f"cache-{number}"))
            layers.append({tuple(each["contents"]): each["digest"] for each in result_of(project)["layers"]})
        assert layers[0]["big 1.0",] == layers[1]["big 1.0",]
        assert layers[0]["alpha 1.0", "delta 1.0"] == layers[1]["alpha 1.0", "delta 1.0"]

    @pytest.mark.parametrize("compression", ["gzip", "gzip-single", "zstd"])
    def test_compressions_give_the_same_content(self, bench: Bench, compression: str) -> None:
        project = bench.project(wheels=[bench.wheel("alpha")])
        plain = bench.made(project)
        made = bench.made(project, HATCH_DOCKER_COMPRESSION=compression)
        kind = "zstd" if compression == "zstd" else "gzip"
        assert [each["mediaType"].rpartition("+")[2] for each in made.manifest["layers"]] == ["gzip", kind, kind]
        assert made.document["rootfs"] == plain.document["rootfs"]


class TestReport:
    def test_result_file_describes_the_image(self, bench: Bench) -> None:
        project = bench.project(wheels=[bench.wheel("alpha")], docker='image = "registry.example/team/shop"')
        made = bench.made(project)
        result = result_of(project)
        (entry,) = _index(archive_of(project))["manifests"]
        assert result["digest"] == entry["digest"]
        assert result["image-id"] == made.manifest["config"]["digest"]
        assert result["reference"] == f"registry.example/team/shop@{entry['digest']}"
        assert result["references"] == ["registry.example/team/shop:1.0", "registry.example/team/shop:latest"]
        assert (result["name"], result["version"], result["platform"]) == ("shop", "1.0", "linux/amd64")
        assert result["lock"] == "pylock.toml"
        assert result["base"]["layers"] == 1
        assert result["outputs"] == {"archive": "shop-1.0.docker.tar"}
        assert result["size"] == sum(each["size"] for each in made.manifest["layers"])
        described = [(each["digest"], each["size"]) for each in result["layers"]]
        assert described == [(each["digest"], each["size"]) for each in made.manifest["layers"][1:]]
        assert [each["diff-id"] for each in result["layers"]] == made.document["rootfs"]["diff_ids"][1:]
        assert [each["contents"] for each in result["layers"]] == [["alpha 1.0"], ["shop 1.0"]]

    def test_standard_output_is_the_reference_by_digest(self, bench: Bench) -> None:
        project = bench.project(wheels=[bench.wheel("alpha")])
        outcome = bench.build(project)
        assert outcome.out == f"docker.io/library/shop@{result_of(project)['digest']}\n"

    def test_summary_lists_each_layer_and_how_to_run_the_image(self, bench: Bench) -> None:
        project = bench.project(wheels=[bench.wheel("alpha")], docker="ports = [8000]")
        first, second = bench.build(project), bench.build(project)
        assert re.search(r"^  alpha 1\.0 +[\d.]+ k?B +[\d.]+ kB  made$", first.err, re.MULTILINE)
        assert re.search(r"^  shop 1\.0 +[\d.]+ k?B +[\d.]+ kB  made$", first.err, re.MULTILINE)
        assert re.search(r"^  alpha 1\.0 .* reused$", second.err, re.MULTILINE)
        assert re.search(r"^  oci:\S+ \(base, 1 layers?\)", first.err, re.MULTILINE)
        assert re.search(r"^  total, [\d.]+ k?B above the base +[\d.]+ kB$", first.err, re.MULTILINE)
        archive = Path("dist/shop-1.0.docker.tar")
        assert f"docker load -i {archive} && docker run --rm -p 8000:8000 shop:1.0" in first.err
        assert str(archive) in first.err.splitlines()

    def test_hatch_quiet_leaves_standard_output_alone(self, bench: Bench) -> None:
        project = bench.project(wheels=[bench.wheel("alpha")])
        outcome = bench.build(project, HATCH_QUIET="1")
        assert outcome.out == f"docker.io/library/shop@{result_of(project)['digest']}\n"
        assert outcome.err == ""

    def test_output_of_a_separate_process_is_the_same(self, bench: Bench) -> None:
        project = bench.project(wheels=[bench.wheel("alpha")])
        outcome = wait_for(start(project, env=environment(bench.cache)))
        assert outcome.code == 0, outcome.err
        assert outcome.out == f"docker.io/library/shop@{result_of(project)['digest']}\n"
        assert "\r" not in outcome.err
        assert "\x1b" not in outcome.err

    def test_files_have_the_modes_of_the_umask(self, bench: Bench) -> None:
        project = bench.project()
        assert wait_for(start(project, env=environment(bench.cache), umask=0o027)).code == 0
        modes = {stat.S_IMODE(path.stat().st_mode) for path in (project / "dist").iterdir()}
        assert modes == {0o640}


class TestOutputs:
    def test_archive_and_push_share_one_build(self, bench: Bench) -> None:
        project = bench.project(wheels=[bench.wheel("alpha")])
        with FakeRegistry() as registry:
            image = f"{registry.host}/team/shop"
            outcome = bench.build(project, target="docker:archive,push", HATCH_DOCKER_IMAGE=image)
            assert outcome.code == 0, outcome.err
            result = result_of(project)
            assert result["outputs"] == {"archive": "shop-1.0.docker.tar", "push": f"{image}@{result['digest']}"}
            assert [layer["reused"] for layer in result["layers"]] == [False, False]
            assert outcome.err.count("made 2 layers") == 1
            assert outcome.out == f"{image}@{result['digest']}\n"
            tags = {tag for name, tag in registry.manifests if name == "team/shop"}
            assert tags == {"1.0", "latest", result["digest"]}
            for layer in read(archive_of(project)).manifest["layers"]:
                assert ("team/shop", layer["digest"]) in registry.blobs

    def test_mounts_layers_of_a_base_in_the_same_registry(self, bench: Bench) -> None:
        with FakeRegistry() as registry:
            serve(bench.base(), registry, "team/base", "1")
            project = bench.project(base="", docker=f'base = "{registry.host}/team/base:1"')
            outcome = bench.build(project, target="docker:push", HATCH_DOCKER_IMAGE=f"{registry.host}/team/shop")
            assert outcome.code == 0, outcome.err
            assert "1 mounted, 2 uploaded" in outcome.err
            assert f"\n  docker run --rm {registry.host}/team/shop:1.0\n" in outcome.err
            assert not list((project / "dist").glob("*.tar"))
            (manifest,) = [
                data for (name, tag), (_, data) in registry.manifests.items() if (name, tag) == ("team/shop", "1.0")
            ]
            annotations = json.loads(manifest)["annotations"]
            assert annotations["org.opencontainers.image.base.name"] == f"{registry.host}/team/base:1"

    def test_default_without_an_engine_is_an_archive(self, bench: Bench) -> None:
        project = bench.project()
        assert bench.build(project, target="docker").code == 0
        assert result_of(project)["outputs"] == {"archive": "shop-1.0.docker.tar"}

    def test_key_outputs_sets_the_default(self, bench: Bench) -> None:
        project = bench.project(docker='outputs = ["push"]')
        with FakeRegistry() as registry:
            outcome = bench.build(project, target="docker", HATCH_DOCKER_IMAGE=f"{registry.host}/team/shop")
            assert outcome.code == 0, outcome.err
        assert set(result_of(project)["outputs"]) == {"push"}

    def test_output_directory(self, bench: Bench) -> None:
        project = bench.project()
        outcome = bench.build(project, "-d", str(bench.root / "elsewhere"))
        assert outcome.code == 0, outcome.err
        check_archive(bench.root / "elsewhere" / "shop-1.0.docker.tar", bench.root / "scratch")
        assert not (project / "dist").exists()

    def test_clean_removes_only_files_of_builds(self, bench: Bench) -> None:
        project = bench.project(version="1.0")
        bench.made(project)
        dist = project / "dist"
        (dist / "shop-0.9.docker.tar").touch()
        (dist / f".shop-0.9.docker.tar.hatch-docker-{'0' * 32}").touch()
        (dist / "shop-1.0-py3-none-any.whl").touch()
        (dist / "pylock.other.toml").touch()
        (dist / "pylock.shop.toml").touch()
        assert bench.build(project, "-c").code == 0
        kept = {"shop-1.0.docker.tar", "shop-1.0.docker.json", "shop-1.0-py3-none-any.whl", "pylock.other.toml"}
        assert {path.name for path in dist.iterdir()} == kept
        assert bench.build(project, "--clean-only").code == 0
        assert {path.name for path in dist.iterdir()} == {"shop-1.0-py3-none-any.whl", "pylock.other.toml"}

    @pytest.mark.skipif(os.name == "nt", reason="Windows has no such locks")
    def test_removes_partial_files_of_killed_builds(self, bench: Bench) -> None:
        project = bench.project()
        bench.made(project)
        left, used = (project / "dist" / f".shop-1.0.docker.tar.hatch-docker-{digit * 32}" for digit in "01")
        left.touch()
        with used.open("wb") as file:
            assert try_lock(file.fileno())
            bench.made(project)
        assert used.exists()
        assert not left.exists()

    def created(self, bench: Bench, project: Path, **env: str) -> str:
        made = bench.made(project, **env)
        times: set[str] = {
            made.document["created"],
            made.config["Labels"]["org.opencontainers.image.created"],
            made.manifest["annotations"]["org.opencontainers.image.created"],
            made.document["history"][-1]["created"],
            result_of(project)["created"],
        }
        assert len(times) == 1
        return times.pop()

    def test_is_the_time_of_the_commit_whose_revision_is_recorded(self, bench: Bench) -> None:
        project = bench.project(docker='tags = ["{version}", "{git-sha}"]')
        revision = commit(project, "2024-02-29T12:00:00+02:00")
        assert self.created(bench, project) == "2024-02-29T10:00:00Z"
        made = read(archive_of(project))
        assert made.config["Labels"]["org.opencontainers.image.revision"] == revision
        assert result_of(project)["references"] == [
            "docker.io/library/shop:1.0",
            f"docker.io/library/shop:{revision[:12]}",
        ]

    @pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root can give a repository away")
    @pytest.mark.parametrize("parent", [False, True])
    def test_is_the_epoch_in_a_repository_that_git_refuses(self, bench: Bench, tmp_path: Path, parent: bool) -> None:
        project = bench.project()
        repository = project.parent if parent else project
        commit(repository, "2024-02-29T12:00:00Z")
        make_hostile(repository, mark := tmp_path / "mark")
        for path in [repository / ".git", *(repository / ".git").rglob("*")]:
            os.chown(path, 65534, 65534)
        outcome = build(project, env=environment(bench.cache))
        assert outcome.code == 0, outcome.err
        note = (
            "the image records no commit, since Git did not read the repository: "
            f"detected dubious ownership in repository at '{repository}' "
            f"(if you trust it: git config --global --add safe.directory {repository})"
        )
        assert outcome.err.count("no commit") == outcome.err.count(note) == 1
        made = read(archive_of(project))
        assert made.document["created"] == "1970-01-01T00:00:00Z"
        assert "org.opencontainers.image.revision" not in made.config["Labels"]
        assert not mark.exists()

    @pytest.mark.parametrize("damage", ["[core", "[extensions]\n\tobjectFormat = none"])
    def test_is_the_epoch_in_a_repository_that_git_cannot_read(self, bench: Bench, damage: str) -> None:
        commit(project := bench.project(), "2024-02-29T12:00:00Z")
        (project / ".git" / "config").write_text(damage)
        outcome = build(project, env=environment(bench.cache))
        assert outcome.code == 0, outcome.err
        assert outcome.err.count("the image records no commit, since Git did not read the repository: ") == 1
        assert read(archive_of(project)).document["created"] == "1970-01-01T00:00:00Z"

    @pytest.mark.parametrize(
        "git",
        [
            "exit 1",
            "echo 'xcrun: error: invalid active developer path' >&2; exit 1",
            "echo 'warning: unable to access a file' >&2; echo 'fatal: not a git repository (or any' >&2; exit 128",
            "echo a banner",
            "",
        ],
    )
    def test_is_the_epoch_if_git_fails_or_prints_nothing(self, bench: Bench, tmp_path: Path, git: str) -> None:
        program = tmp_path / "bin" / "git"
        program.parent.mkdir()
        program.write_text(f"#!/bin/sh\n{git}\n")
        program.chmod(0o755)
        path = f"{program.parent}{os.pathsep}{os.environ['PATH']}"
        outcome = build(bench.project(), env=environment(bench.cache, PATH=path))
        assert outcome.code == 0, outcome.err
        assert "no commit" not in outcome.err

    def test_is_the_time_of_the_commit_despite_a_file_named_head(self, bench: Bench) -> None:
        project = bench.project(files={"HEAD": ""})
        commit(project, "2024-02-29T12:00:00Z")
        assert self.created(bench, project) == "2024-02-29T12:00:00Z"

    def test_is_the_epoch_before_the_first_commit(self, bench: Bench) -> None:
        project = bench.project()
        subprocess.run(["git", "init", "-q", project], check=True)
        outcome = build(project, env=environment(bench.cache, GIT_TRACE="1"))
        assert outcome.code == 0, outcome.err
        assert "no commit" not in outcome.err

    def test_is_the_epoch_without_a_commit(self, bench: Bench) -> None:
        assert self.created(bench, bench.project()) == "1970-01-01T00:00:00Z"

    def test_is_the_configured_time(self, bench: Bench) -> None:
        project = bench.project(docker="created = 2026-01-31T12:00:00+01:00")
        assert self.created(bench, project) == "2026-01-31T11:00:00Z"
        assert self.created(bench, project, HATCH_DOCKER_CREATED="epoch") == "1970-01-01T00:00:00Z"
        assert self.created(bench, project, HATCH_DOCKER_CREATED="now") > "2026"

    def test_source_date_epoch_overrides_the_key(self, bench: Bench) -> None:
        project = bench.project(docker='created = "now"')
        assert self.created(bench, project, SOURCE_DATE_EPOCH="1700000000") == "2023-11-14T22:13:20Z"


# Keys that change only what is compiled, comes from Debian's archive, or is right above the base: test_compiling*.py,
# test_debian*.py and test_additions.py. Bytecode needs a real Python: test_bytecode_layers.py.
TESTED_ELSEWHERE = {
    "build-constraints",
    "build-network",
    "build-packages",
    "builder",
    "bytecode",
    "ca-certificates",
    "cache",
    "cache-mode",
    "debian-keyring",
    "debian-mirror",
    "init",
    "isolate",
    "no-binary",
    "prune-base",
    "runtime-installer",
    "runtime-packages",
}
# For each key the text of its variable, and a check of the image and the result file.
OVERRIDES: dict[str, tuple[str, Callable[[Made, dict[str, Any]], bool]]] = {
    "image": ("registry.example/a/b", lambda _, result: result["references"][0] == "registry.example/a/b:1.0"),
    "tags": (
        "a, b-{version}",
        lambda _, result: [r.rpartition(":")[2] for r in result["references"]] == ["a", "b-1.0"],
    ),
    "base": ("oci:{musl}", lambda made, _: "lib/ld-musl-x86_64.so.1" in made.members),
    "python": ("3.13", lambda made, _: f"{SITE}/shop/__init__.py" in made.members),
    "platforms": ("linux/amd64", lambda made, _: made.document["architecture"] == "amd64"),
    "lock": ("other/pylock.toml", lambda made, _: made.text(f"{SITE}/alpha.py") == "VERSION = '2.0'\n"),
    "extras": ("fast", lambda made, _: made.config["Entrypoint"] == ["/app/.venv/bin/shop"]),
    "dependency-groups": ("server", lambda made, _: made.config["Entrypoint"] == ["/app/.venv/bin/shop"]),
    "index-url": ("https://index.example/simple/", lambda made, _: f"{SITE}/alpha.py" in made.members),
    "prune": (
        "*.txt",
        lambda made, _: (
            f"{SITE}/alpha/note.txt" not in made.members and f"{SITE}/alpha/tests/test_x.py" in made.members
        ),
    ),
    "keep": ("alpha", lambda made, _: f"{SITE}/alpha/tests/test_x.py" in made.members),
    "entrypoint": ('["python", "-c"]', lambda made, _: made.config["Entrypoint"] == ["python", "-c"]),
    "cmd": ("alpha-tool", lambda made, _: made.config["Cmd"] == ["/app/.venv/bin/alpha-tool"]),
    "env": ("A=1, B=x=y", lambda made, _: (made.env["A"], made.env["B"]) == ("1", "x=y")),
    "ports": ("8000, 53/udp", lambda made, _: set(made.config["ExposedPorts"]) == {"8000/tcp", "53/udp"}),
    "volumes": ("/data", lambda made, _: made.config["Volumes"] == {"/data": {}}),
    "user": ("www-data", lambda made, _: made.config["User"] == "www-data"),
    "working-dir": ("/work", lambda made, _: made.config["WorkingDir"] == "/work"),
    "labels": ("team=a", lambda made, _: made.config["Labels"]["team"] == "a"),
    "annotations": ('{"x.y" = "a, b"}', lambda made, _: made.manifest["annotations"]["x.y"] == "a, b"),
    "stop-signal": ("int", lambda made, _: made.config["StopSignal"] == "SIGINT"),
    "healthcheck": (
        '{cmd = ["shop", "--check"], interval = "30s"}',
        lambda made, _: made.config["Healthcheck"] == {"Test": ["CMD", "shop", "--check"], "Interval": 30 * 10**9},
    ),
    "extra-files": ('[{from = "pyproject.toml", into = "/x.toml"}]', lambda made, _: "x.toml" in made.members),
    "compression": ("zstd", lambda made, _: made.manifest["layers"][-1]["mediaType"].endswith("+zstd")),
    "max-layers": ("3", lambda made, _: len(made.layers) == 3),
    "created": ("2026-01-31", lambda made, _: made.document["created"] == "2026-01-31T00:00:00Z"),
    "outputs": ("archive", lambda _, result: list(result["outputs"]) == ["archive"]),
}


class TestOverrides:
    def test_every_key_is_tested(self) -> None:
        assert OVERRIDES.keys() | TESTED_ELSEWHERE == KEYS.keys()

    @pytest.mark.parametrize("key", OVERRIDES)
    def test_a_variable_overrides_its_key(self, bench: Bench, key: str) -> None:
        test = "from alpha import x\ndef test_x():\n    assert x\n"
        alpha = {"alpha/__init__.py": "", "alpha/tests/test_x.py": test, "alpha/note.txt": ""}
        newer = bench.root / "newer"
        newer.mkdir()
        project = bench.project(
            wheels=[bench.wheel("alpha", files=alpha, entry_points="[console_scripts]\nalpha-tool = alpha:x\n")],
            project="optional-dependencies = {fast = []}",
            more="[dependency-groups]\nserver = []",
        )
        (project / "other").mkdir()
        (project / "other/pylock.toml").write_text(lock_of(bench.wheel("alpha", "2.0")))
        value, check = OVERRIDES[key]
        value = value.replace("{musl}", str(bench.base(FakeBase(libc="musl"))))
        made = bench.made(project, target="docker", **{f"HATCH_DOCKER_{key.upper().replace('-', '_')}": value})
        assert check(made, result_of(project))


class TestReproducibility:
    """The digest depends on the inputs only: not on directory, clock, user, umask, locale or number of threads."""

    @pytest.fixture
    def project(self, bench: Bench) -> Path:
        return self.make(bench, "project")

    def make(self, bench: Bench, folder: str) -> Path:
        noise = bytes(range(256)) * 6000 + bytes(1 << 20)
        wheels = [bench.wheel(name, files={f"{name}_data.bin": noise}) for name in ("alpha", "beta")]
        wheels += [bench.wheel(name) for name in ("gamma", "delta")]
        return bench.project(
            folder,
            wheels=wheels,
            files={"conf/ä.toml": "a", "conf/B.toml": "b", "conf/run": "#!/bin/sh\n"},
            docker='extra-files = [{from = "conf", into = "/etc/shop"}]\nports = [1, 2, 3]\nenv = {B = "1", A = "2"}',
        )

    def digest(self, project: Path, env: dict[str, str], *, umask: int = -1) -> str:
        outcome = wait_for(start(project, env={**env, "HATCH_QUIET": "1"}, umask=umask))
        assert outcome.code == 0, outcome.err
        return outcome.out

    def test_digest_does_not_depend_on_the_machine(self, bench: Bench, project: Path) -> None:
        other = bench.root / "a b ü" / "other"
        other.parent.mkdir()
        self.make(bench, str(other.relative_to(bench.root)))
        for path in sorted(other.rglob("*"), reverse=True):
            path.chmod(0o700 if path.is_dir() else 0o600)
            os.utime(path, (1, 1))
        plain = environment(bench.root / "cache-1")
        reference = self.digest(project, {**plain, "HATCH_DOCKER_THREADS": "1", "PYTHONHASHSEED": "1"}, umask=0o022)
        strange = {
            **environment(bench.root / "cache-2"),
            "HATCH_DOCKER_THREADS": "8",
            "PYTHONHASHSEED": "2",
            "TZ": "Pacific/Kiritimati",
            "LC_ALL": "C",
            "LANG": "tr_TR.UTF-8",
            "COLUMNS": "20",
        }
        assert self.digest(other, strange, umask=0o077) == reference
        assert self.digest(project, {**plain, "TZ": "Asia/Tokyo"}) == reference, "from a warm cache"

    @pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root can become another user")
    def test_digest_does_not_depend_on_the_user(self, bench: Bench, project: Path) -> None:
        packages = Path(pytest.__file__).parent
        if subprocess.run(["test", "-r", packages], user=65534, group=65534, extra_groups=[]).returncode:
            pytest.skip(f"others may not read {packages}")
        reference = self.digest(project, environment(bench.cache))
        # Outside of pytest's directories, which other users may not enter.
        with tempfile.TemporaryDirectory() as folder:
            self.make(other_bench := Bench(Path(folder)), "project")
            for path in [other_bench.root, *other_bench.root.rglob("*")]:
                os.chown(path, 65534, 65534)
            # In one process that imports everything as root, since other users may not be able to read this checkout.
            command = [sys.executable, "-c", _AS_NOBODY, str(project), folder]
            done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parent)
            assert done.returncode == 0, done.stderr
            assert done.stdout == reference
            assert archive_of(other_bench.root / "project").stat().st_uid == 65534

    def test_digest_does_not_depend_on_the_order_of_inputs(self, bench: Bench, project: Path) -> None:
        reference = bench.build(project).out
        packages = (project / "pylock.toml").read_text().split("[[packages]]")
        (project / "pylock.toml").write_text("[[packages]]".join([packages[0], *reversed(packages[1:])]))
        text = (project / "pyproject.toml").read_text()
        text = text.replace("ports = [1, 2, 3]", "ports = [3, 1, 2]").replace("['alpha', 'beta'", "['beta', 'alpha'")
        (project / "pyproject.toml").write_text(text)
        fresh = bench.build(project, HATCH_DOCKER_CACHE_DIR=str(bench.root / "fresh"))
        assert fresh.out == reference


class TestRebuild:
    @pytest.fixture
    def registry(self) -> Iterator[FakeRegistry]:
        with FakeRegistry() as registry:
            yield registry

    def test_change_of_the_project_makes_one_layer_without_network(
        self, bench: Bench, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        digest = serve(bench.base(), registry, "team/base", "1")
        wheels = [bench.wheel(name) for name in ("alpha", "beta", "gamma")]
        project = bench.project(base="", wheels=wheels, docker=f'base = "{registry.host}/team/base@{digest}"')
        first = bench.made(project)
        assert not any(layer["reused"] for layer in result_of(project)["layers"])

        # From here on, requests, resolutions and pip fail.
        for wheel in wheels:
            wheel.unlink()
        before = len(registry.requests)
        monkeypatch.setattr("hatch_docker.support.http.Http.request", _fail)
        monkeypatch.setattr("hatch_docker.locks.resolve.resolve", _fail)
        monkeypatch.setattr("hatch_docker.index.settings.Pip._help", _fail)
        (project / "src/shop/__init__.py").write_text("def main() -> None:\n    print('changed')\n")
        second = bench.made(project)
        layers = result_of(project)["layers"]
        assert [layer["reused"] for layer in layers] == [True] * (len(layers) - 1) + [False]
        assert len(registry.requests) == before
        assert second.manifest["layers"][:-1] == first.manifest["layers"][:-1]
        assert second.manifest["layers"][-1] != first.manifest["layers"][-1]
        assert second.manifest["layers"][-1]["size"] < 4000

        third = bench.made(project)
        assert all(layer["reused"] for layer in result_of(project)["layers"])
        assert third.manifest == second.manifest

    def test_new_dependency_makes_its_layer_and_the_project_s(self, bench: Bench) -> None:
        names = [f"pkg{number}" for number in range(12)]
        wheels = [bench.wheel(name) for name in names]
        project = bench.project(wheels=wheels[:-1])
        bench.made(project)
        shutil.rmtree(project)
        bench.project(wheels=wheels)
        bench.made(project)
        new = [layer["contents"] for layer in result_of(project)["layers"] if not layer["reused"]]
        assert len(new) == 2
        assert any("pkg11 1.0" in contents for contents in new)

    def test_cached_facts_and_layers_need_no_file_of_a_wheel(self, bench: Bench) -> None:
        big: dict[str, str | bytes] = {
            "lib/big.bin": random.Random(1).randbytes(1_100_000),
            "big-1.0.data/scripts/big": "#!python\nimport big\n",
        }
        wheels = [bench.wheel("alpha"), bench.wheel("big", files=big)]
        project = bench.project(wheels=wheels, docker='entrypoint = ["big"]')
        first = bench.made(project)
        blobs = {path: bench.cache / "blobs/sha256" / hashlib.sha256(path.read_bytes()).hexdigest() for path in wheels}
        for path, blob in blobs.items():
            blob.unlink()
            path.rename(path.with_suffix(".away"))
        assert bench.made(project).manifest == first.manifest
        assert not any(blob.exists() for blob in blobs.values())

        # What needs one fetches it: here the layer of the big wheel.
        (of_big,) = [each["digest"] for each in result_of(project)["layers"] if each["contents"] == ["big 1.0"]]
        (bench.cache / "blobs" / of_big.replace(":", "/")).unlink()
        outcome = bench.build(project)
        assert outcome.code != 0
        assert "big-1.0-py3-none-any.whl cannot be read" in outcome.err
        wheels[1].with_suffix(".away").rename(wheels[1])
        assert bench.made(project).manifest == first.manifest
        assert [blob.exists() for blob in blobs.values()] == [False, True]

    def test_damaged_cache_is_like_an_empty_one(self, bench: Bench) -> None:
        project = bench.project(wheels=[bench.wheel("alpha")])
        first = bench.made(project)
        for path in bench.cache.rglob("*"):
            if path.is_file():
                path.write_bytes(path.read_bytes()[:-7] + b"damaged")
        assert bench.made(project).manifest == first.manifest


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak of memory in /proc")
def test_peak_memory_does_not_depend_on_the_wheels(bench: Bench) -> None:
    large = {"big/lib.so": bytes(160 << 20), "big/noise.bin": os.urandom(4 << 20)}
    project = bench.project(wheels=[bench.wheel("big", files=large)])
    del large
    program = """
import hatchling.cli, sys
code = hatchling.cli.hatchling()
print(open("/proc/self/status").read().split("VmHWM:")[1].split()[0])
sys.exit(code)
"""
    env = {**environment(bench.cache), "HATCH_DOCKER_THREADS": "8"}
    command = [sys.executable, "-c", program, "build", "-t", "docker:archive"]
    done = subprocess.run(command, cwd=project, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[-1]) < 150_000


def commit(project: Path, time: str) -> str:
    """Commit all files of a project with this time; return the revision."""
    env = {**os.environ, "GIT_COMMITTER_DATE": time, "GIT_AUTHOR_DATE": time}
    git = ["git", "-C", str(project), "-c", "user.name=t", "-c", "user.email=t@shop.example"]
    for arguments in (["init", "-q"], ["add", "."], ["commit", "-qm", "x"]):
        subprocess.run([*git, *arguments], check=True, env=env)
    return subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()


def make_hostile(repository: Path, mark: Path) -> None:
    """Configure a repository so that Git runs a program, which creates `mark`, when it reads the commit."""
    git = ["git", "-C", str(repository)]
    for name, value in (
        ("core.repositoryFormatVersion", "1"),
        ("extensions.partialClone", "origin"),
        ("remote.origin.url", f"ext::sh -c touch% {mark}"),
        ("remote.origin.promisor", "true"),
        ("protocol.ext.allow", "always"),
    ):
        subprocess.run([*git, "config", name, value], check=True)
    shutil.rmtree(repository / ".git" / "objects")
    (repository / ".git" / "objects").mkdir()


def _index(archive: Path) -> dict[str, Any]:
    import tarfile

    with tarfile.open(archive) as tar:
        index: dict[str, Any] = json.load(tar.extractfile("index.json"))  # type: ignore[arg-type]
    return index


_AS_NOBODY = """\
import os, pathlib, sys, builds
project, other_bench = map(pathlib.Path, sys.argv[1:])
builds.build(project, env=builds.environment(project.parent / "another-cache"))
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
outcome = builds.build(other_bench / "project", env=builds.environment(other_bench / "cache", HATCH_QUIET="1"))
sys.stdout.write(outcome.out)
sys.exit(outcome.err or outcome.code)
"""


def _fail(*_arguments: object, **_options: object) -> None:
    raise AssertionError("this must not be called")
