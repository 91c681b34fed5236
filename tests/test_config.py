from __future__ import annotations

import datetime
import json
from collections.abc import Mapping
from operator import attrgetter
from typing import Any

import pytest
from hatchling.builders.config import BuilderConfig
from hypothesis import given, settings
from hypothesis import strategies as st
from mutations import many

from hatch_docker.base.families import BASES
from hatch_docker.config import (
    HATCH_TABLE,
    PRUNED,
    BaseSpec,
    Config,
    ExtraFiles,
    Option,
    Settings,
    check_names,
    check_options,
    check_push,
    created_time,
    default_script,
    expand_tags,
    refuse,
    set_option,
)
from hatch_docker.config import parse as parse_leniently
from hatch_docker.config.checks import check_outputs
from hatch_docker.config.keys import HATCHLING, KEYS, SETTINGS
from hatch_docker.config.model import FAMILIES, Caching, variable
from hatch_docker.errors import ConfigError
from hatch_docker.oci.config import Healthcheck
from hatch_docker.oci.reference import Reference, check_tag
from hatch_docker.oci.spec import Platform
from hatch_docker.wheels.prune import RULES

PLACE = HATCH_TABLE


def parse(table: object, environ: Mapping[str, str]) -> tuple[Config, Settings]:
    made, settings, mistakes = parse_leniently(table, environ, name=HATCH_TABLE)
    refuse(mistakes)
    return made, settings


def config(environ: Mapping[str, str] | None = None, /, **keys: Any) -> Config:
    return parse(_table(keys), environ or {})[0]


def host_settings(**environ: str) -> Settings:
    return parse({}, environ)[1]


def problems(environ: Mapping[str, str] | None = None, /, **keys: Any) -> list[tuple[str, str]]:
    with pytest.raises(ConfigError) as caught:
        config(environ, **keys)
    return [(place.removeprefix(f"{PLACE}."), message) for place, message in caught.value.problems]


def problem(environ: Mapping[str, str] | None = None, /, **keys: Any) -> tuple[str, str]:
    (only,) = problems(environ, **keys)
    return only


def _table(keys: Mapping[str, Any]) -> dict[str, Any]:
    return {key.replace("_", "-"): value for key, value in keys.items()}


class TestTable:
    def test_defaults_of_an_empty_table(self) -> None:
        made = config()
        assert made.naming.image is None
        assert made.naming.tags == ("{version}", "latest")
        assert made.base.spec == BaseSpec(transport="family", value="slim")
        assert (made.runtime.user, made.runtime.working_dir, made.output.max_layers) == ("65532:65532", "/app", 80)
        assert (made.output.created, made.output.compression, made.packages.prune) == ("commit", "gzip", PRUNED)
        assert made.runtime.entrypoint is None

    def test_reports_all_mistakes_with_their_paths(self) -> None:
        reported = problems(
            {"HATCH_DOCKER_MAX_LAYERS": "1000", "HATCH_DOCKER_PROTS": "1"},
            prots=[1],
            ports=[8080, 0, "x"],
            image="Registry.example/App",
            env={"1A": "x", "B": True},
            healthcheck={"interval": "soon", "retires": 3},
            extra_files=[{"from": "a"}, {"from": "", "into": "b"}],
        )
        assert [place for place, _ in reported] == [
            "prots",
            "ports[1]",
            "ports[2]",
            "image",
            "env.1A",
            "env.B",
            "healthcheck.interval",
            "healthcheck.retires",
            "healthcheck",
            "extra-files[0]",
            "extra-files[1].from",
            "extra-files[1].into",
            "HATCH_DOCKER_MAX_LAYERS",
            "HATCH_DOCKER_PROTS",
        ]

    def test_key_with_a_mistake_counts_as_unset(self) -> None:
        table = {"ports": ["x"], "user": 7, "entrypoint": 1}
        made, settings, mistakes = parse_leniently(
            table, {"HATCH_DOCKER_ENTRYPOINT": "[", "HATCH_DOCKER_THREADS": "0"}, name=HATCH_TABLE
        )
        assert (made.runtime.ports, made.runtime.user, made.runtime.entrypoint, settings.threads) == (
            (),
            "7",
            None,
            None,
        )
        assert list(mistakes) == ["ports", "entrypoint", "threads"]

    def test_error_has_one_line_per_mistake(self) -> None:
        with pytest.raises(ConfigError) as caught:
            parse({"port": 1, "user": 1.5}, {})
        assert str(caught.value).splitlines() == [
            f"{PLACE}.port: unknown key; did you mean 'ports'?",
            f'{PLACE}.user: expected a user like 1000, "1000:1000" or "www-data", got a float',
        ]

    @pytest.mark.parametrize(
        ("value", "name"),
        [
            (1, "an integer"),
            (True, "a boolean"),
            (1.5, "a float"),
            ("x", "a string"),
            ({}, "a table"),
            (datetime.datetime(2026, 1, 1), "a date and time"),
            (datetime.date(2026, 1, 1), "a date"),
            (datetime.time(1, 1), "a time"),
        ],
    )
    def test_names_the_wrong_type(self, value: object, name: str) -> None:
        assert problem(volumes=value) == ("volumes", f"expected a list of strings, got {name}")

    def test_quotes_keys_in_paths_as_toml_does(self) -> None:
        assert problem(labels={"org.example": 1})[0] == 'labels."org.example"'

    def test_table_is_not_a_table(self) -> None:
        with pytest.raises(ConfigError, match="docker: expected a table, got a list"):
            parse([], {})

    def test_setting_of_the_host_is_not_a_key(self) -> None:
        assert problem(threads=4) == (
            "threads",
            "this is a setting of the host, not of the image: set HATCH_DOCKER_THREADS",
        )

    def test_accepts_keys_that_hatchling_reads(self) -> None:
        read: set[str] = set()

        class Recording(dict[str, Any]):
            def get(self, key: str, default: Any = None) -> Any:
                read.add(key)
                return super().get(key, default)

            def __contains__(self, key: object) -> bool:
                read.add(str(key))
                return super().__contains__(key)

        builder = type("Builder", (), {"PLUGIN_NAME": "docker", "get_version_api": dict, "get_default_versions": list})
        builder_config: Any = BuilderConfig(builder(), ".", "docker", {}, Recording())
        for name in dir(BuilderConfig):
            if isinstance(getattr(BuilderConfig, name), property) or hasattr(getattr(BuilderConfig, name), "func"):
                try:
                    getattr(builder_config, name)
                except (AttributeError, FileNotFoundError):
                    continue
        assert {"dependencies", "hooks", "directory"} <= read
        assert read - KEYS.keys() <= HATCHLING
        assert not HATCHLING & KEYS.keys()
        assert config(**dict.fromkeys(HATCHLING, 1)) == config()


# All values of TOML and the environment, where undecodable bytes become lone surrogates.
_TEXT = st.one_of(
    st.text(st.characters() | st.sampled_from("\udcff\0[]{}\"',=:@/"), max_size=12),
    st.sampled_from(
        ["8080", "8080/udp", "{version}", "{x}", "1m30s", "a:b", "oci:", "oci:a:b", "http://[", "linux/amd64", "+1"]
    ),
    st.sampled_from(["2026-01-01T00:00:00Z", "0001-01-01T00:00:00+23:59", "docker-daemon:", "a'b", "1_0", "٣:٣"]),
)
_SCALARS = st.one_of(
    _TEXT,
    st.integers(),
    st.booleans(),
    st.floats(),
    st.datetimes(timezones=st.none() | st.just(datetime.timezone.utc)),
    st.dates(),
    st.times(),
)
_NAMES = st.sampled_from(["cmd", "interval", "retries", "from", "into", "mode", "owner", "include", "A"]) | _TEXT
_VALUES = st.recursive(
    _SCALARS, lambda v: st.lists(v, max_size=3) | st.dictionaries(_NAMES, v, max_size=4), max_leaves=6
)


class TestRaisesNothingButConfigError:
    @settings(max_examples=many(30))
    @given(st.dictionaries(st.sampled_from([*KEYS, *HATCHLING]) | _TEXT, _VALUES, max_size=4))
    def test_any_table(self, table: dict[str, Any]) -> None:
        self._check(table, {})

    @settings(max_examples=many(30))
    @given(st.dictionaries(st.sampled_from([variable(key) for key in (*KEYS, *SETTINGS)]), _TEXT, max_size=4))
    def test_any_environment(self, environ: dict[str, str]) -> None:
        self._check({}, environ)

    @settings(max_examples=many(40))
    @given(st.sampled_from([*KEYS]), _VALUES, st.sampled_from(["", "[", "{", '"', "[1,", "[[["]))
    def test_any_toml_in_the_environment(self, key: str, value: object, prefix: str) -> None:
        self._check({}, {variable(key): prefix + json.dumps(value, default=str)})

    @pytest.mark.parametrize("text", ["[" * 100_000, "{a=" * 50_000, '"', "[1]\nother = 2", "'''"])
    def test_hostile_toml(self, text: str) -> None:
        self._check({}, {variable(key): text for key in KEYS})

    @pytest.mark.parametrize("key", KEYS)
    def test_huge_number(self, key: str) -> None:
        self._check({key: 10**5000}, {})
        self._check({key: [10**5000]}, {})
        self._check({}, {variable(key): "9" * 5000})

    @staticmethod
    def _check(table: object, environ: Mapping[str, str]) -> None:
        """Check that accepted values are valid in JSON, and that others raise a printable ConfigError."""
        try:
            made, _ = parse(table, environ)
        except ConfigError as error:
            str(error).encode()
            places = [place for place, message in error.problems if message]
        else:
            places = [PLACE]
            TestRaisesNothingButConfigError._check_values(made)
        assert places
        assert all(place.startswith((PLACE, "HATCH_DOCKER_")) for place in places)

    @staticmethod
    def _check_values(made: Config) -> None:
        written = json.dumps(
            [made.runtime.env, made.runtime.labels, made.runtime.entrypoint, made.runtime.user, made.naming.tags],
            ensure_ascii=False,
        )
        assert "\\u0000" not in written
        written.encode()
        assert isinstance(hash((made.naming.image, made.base.spec, made.naming.tags, made.output.extra_files)), int)


class TestEnvironment:
    def test_variable_replaces_the_whole_key(self) -> None:
        made = config({"HATCH_DOCKER_ENV": "A=1, B=x=y"}, env={"C": "2", "not a name": 1})
        assert made.runtime.env == {"A": "1", "B": "x=y"}
        assert made.place("env") == "HATCH_DOCKER_ENV"
        assert made.place("ports") == f"{PLACE}.ports"

    @pytest.mark.parametrize("empty", ["", " ", "\n"])
    def test_empty_variable_counts_as_unset(self, empty: str) -> None:
        assert config({variable(key): empty for key in KEYS}, user="1000").runtime.user == "1000"

    def test_template_is_not_toml(self) -> None:
        assert config({"HATCH_DOCKER_TAGS": "{version}, edge"}).naming.tags == ("{version}", "edge")

    def test_reads_toml_if_the_text_starts_like_the_key_s_type(self) -> None:
        made = config(
            {
                "HATCH_DOCKER_CMD": '["a", "b c"]',
                "HATCH_DOCKER_ENV": '{A = "1,2", B = 3}',
                "HATCH_DOCKER_USER": "'1000'",
                "HATCH_DOCKER_HEALTHCHECK": '{cmd = "true", retries = 3}',
                "HATCH_DOCKER_EXTRA_FILES": '[{from = "a", into = "/b"}]',
            }
        )
        assert made.runtime.cmd == ("a", "b c")
        assert made.runtime.env == {"A": "1,2", "B": "3"}
        assert made.runtime.user == "1000"
        assert made.runtime.healthcheck == Healthcheck(test=("CMD-SHELL", "true"), retries=3)
        assert made.output.extra_files == (ExtraFiles(source="a", into="/b"),)

    def test_reads_plain_text_by_the_key_s_type(self) -> None:
        made = config(
            {
                "HATCH_DOCKER_PORTS": "8080, 53/udp",
                "HATCH_DOCKER_MAX_LAYERS": "7",
                "HATCH_DOCKER_ENTRYPOINT": "my-app",
                "HATCH_DOCKER_STOP_SIGNAL": "15",
            }
        )
        assert made.runtime.ports == ("8080/tcp", "53/udp")
        assert made.output.max_layers == 7
        assert made.runtime.entrypoint == "my-app"
        assert made.runtime.stop_signal == "15"

    @pytest.mark.parametrize(
        ("name", "text", "place", "message"),
        [
            ("HATCH_DOCKER_TAGS", '"a"', "HATCH_DOCKER_TAGS", "expected a list of strings, got a string"),
            ("HATCH_DOCKER_PORTS", "1,0", "HATCH_DOCKER_PORTS[1]", "'0' is not a port"),
            ("HATCH_DOCKER_PORTS", "[1,", "HATCH_DOCKER_PORTS", "is not a TOML value"),
            ("HATCH_DOCKER_MAX_LAYERS", "many", "HATCH_DOCKER_MAX_LAYERS", "expected an integer, got a string"),
            ("HATCH_DOCKER_ENV", "A=1,B", "HATCH_DOCKER_ENV", "item 2 is not of the form name=value"),
            ("HATCH_DOCKER_HEALTHCHECK", "cmd=x", "HATCH_DOCKER_HEALTHCHECK", "write it as TOML, like {cmd"),
            ("HATCH_DOCKER_EXTRA_FILES", "a", "HATCH_DOCKER_EXTRA_FILES", "write it as TOML, like [{from"),
            ("HATCH_DOCKER_THREADS", "0", "HATCH_DOCKER_THREADS", "from 1 to"),
            ("HATCH_DOCKER_FOO", "x", "HATCH_DOCKER_FOO", "unknown variable"),
            ("HATCH_DOCKER_CACHEDIR", "x", "HATCH_DOCKER_CACHEDIR", "did you mean 'HATCH_DOCKER_CACHE_DIR'?"),
        ],
    )
    def test_mistakes_name_the_variable(self, name: str, text: str, place: str, message: str) -> None:
        reported = problem({name: text})
        assert reported[0] == place
        assert message in reported[1]

    def test_ignores_variables_of_tests_and_other_programs(self) -> None:
        assert config({"HATCH_DOCKER_TEST_REGISTRY": "x", "HATCH_VERBOSE": "1", "PATH": "/"}) == config()

    def test_platforms_as_a_toml_string(self) -> None:
        assert config({"HATCH_DOCKER_PLATFORMS": '"all"'}) == config({"HATCH_DOCKER_PLATFORMS": "all"})

    def test_settings_of_the_host(self) -> None:
        made = host_settings(
            HATCH_DOCKER_REGISTRY_MIRRORS="docker.io=127.0.0.1:5000, hub.example=mirror.example/proxy",
            HATCH_DOCKER_INSECURE_REGISTRIES="registry.example:5000",
            HATCH_DOCKER_CACHE_DIR="/cache",
            HATCH_DOCKER_CACHE_SIZE="1.5GB",
            HATCH_DOCKER_VERIFY="1",
            HATCH_DOCKER_THREADS="3",
            HATCH_DOCKER_BUILD_MEMORY="2g",
            HATCH_DOCKER_BUILD_CPUS="1.5",
            HATCH_DOCKER_BUILD_TIMEOUT="30m",
        )
        assert made == Settings(
            registry_mirrors={"docker.io": "127.0.0.1:5000", "hub.example": "mirror.example/proxy"},
            insecure_registries=frozenset({"registry.example:5000"}),
            cache_dir="/cache",
            cache_size=1_500_000_000,
            verify=True,
            threads=3,
            build_memory=2 << 30,
            build_cpus=1.5,
            build_timeout=1800,
        )
        assert host_settings() == Settings()

    def test_a_cache_may_have_no_limit(self) -> None:
        assert host_settings(HATCH_DOCKER_CACHE_SIZE="0").cache_size == 0

    @pytest.mark.parametrize(("text", "size"), [("5GB", 5 * 10**9), ("500 mb", 5 * 10**8), ("2GiB", 2 << 30), ("7", 7)])
    def test_sizes_of_the_cache(self, text: str, size: int) -> None:
        assert host_settings(HATCH_DOCKER_CACHE_SIZE=text).cache_size == size

    @pytest.mark.parametrize("size", ["-1", "5 apples", "1e9", "GB", "9999999T"])
    def test_invalid_size_of_the_cache(self, size: str) -> None:
        place, message = problem({"HATCH_DOCKER_CACHE_SIZE": size})
        assert place == "HATCH_DOCKER_CACHE_SIZE"
        assert "'500MB' or '5GB'" in message or "out of range" in message

    def test_invalid_path_of_a_mirror(self) -> None:
        _, message = problem({"HATCH_DOCKER_REGISTRY_MIRRORS": "docker.io=mirror.example/A//"})
        assert "'mirror.example/A//' is not a mirror: write a host or host/path" in message

    def test_invalid_host_of_a_mirror(self) -> None:
        place, message = problem({"HATCH_DOCKER_REGISTRY_MIRRORS": "docker.io=http://127.0.0.1"})
        assert place == 'HATCH_DOCKER_REGISTRY_MIRRORS."docker.io"'
        assert "is not a registry's host" in message


class TestBase:
    def test_families_are_those_of_the_base_package(self) -> None:
        assert set(FAMILIES) == set(BASES)

    @pytest.mark.parametrize(
        ("written", "expected"),
        [
            ("alpine", BaseSpec(transport="family", value="alpine")),
            ("debian", BaseSpec(transport="debian", value="trixie")),
            ("debian:bookworm", BaseSpec(transport="debian", value="bookworm")),
            ("debian:sid-debug", BaseSpec(transport="debian", value="sid", name="debug")),
            ("debian:forky@2026-11-01", BaseSpec(transport="debian", value="forky", date="2026-11-01")),
            (
                "debian:trixie-debug@2028-02-29",
                BaseSpec(transport="debian", value="trixie", name="debug", date="2028-02-29"),
            ),
            ("oci:dir/layout", BaseSpec(transport="oci", value="dir/layout")),
            ("oci:/layout:v1:x", BaseSpec(transport="oci", value="/layout", name="v1:x")),
            ("oci-archive:C:\\a.tar:v1", BaseSpec(transport="oci-archive", value="C:\\a.tar", name="v1")),
            (
                "docker-archive:a.tar:app:1.0",
                BaseSpec(transport="docker-archive", value="a.tar", name="app:1.0"),
            ),
            ("docker-daemon:sha256:" + "a" * 64, BaseSpec(transport="docker-daemon", value="sha256:" + "a" * 64)),
        ],
    )
    def test_forms(self, written: str, expected: BaseSpec) -> None:
        assert config(base=written).base.spec == expected

    @pytest.mark.parametrize(
        "written",
        [
            *("python:3.13-slim", "acme/base", "registry.example:5000/base:1", "python@sha256:" + "a" * 64),
            # Images whose names are similar to those of Debian bases.
            *("debian:12", "debian:latest", "debian:trixie-slim", "debian:trixie-20260112", "debian:stable"),
            *("debian:trixie@sha256:" + "a" * 64, "docker.io/library/debian:trixie", "debian/eol:etch"),
        ],
    )
    def test_references(self, written: str) -> None:
        base = config(base=written).base.spec
        assert (base.transport, base.value, base.reference) == ("registry", written, Reference.parse(written))

    def test_image_of_the_engine_has_a_reference(self) -> None:
        base = config(base="docker-daemon:app").base.spec
        assert base == BaseSpec(transport="docker-daemon", value="app", reference=Reference.parse("app"))

    @pytest.mark.parametrize(
        ("written", "message"),
        [
            ("slin", "did you mean 'slim'?"),
            ("python", "like 'python:latest'"),
            ("Slim:1", "a repository is in lower case"),
            ("docker://python:3.13", "write it without its scheme, like 'python:3.13'"),
            ("oci:", "oci: needs a path"),
            ("docker-daemon:", "it names no repository"),
            ("python:3.13:x", "is not a tag"),
            ("python@sha256:abc", "is not a digest"),
            ("debain", "did you mean 'debian'?"),
            ("debian:trixie@2026-02-30", "2026-02-30 is not a date: write it like 2026-11-01"),
            ("debian:trixie@today", "'today' is not a digest"),
            ("debian@2026-11-01", "'2026-11-01' is not a digest"),
            ("debian:", "'' is not a tag"),
            ("", "an empty string"),
        ],
    )
    def test_mistakes(self, written: str, message: str) -> None:
        place, reported = problem(base=written)
        assert place == "base"
        assert message in reported


class TestDebian:
    def test_defaults(self) -> None:
        made = config()
        assert (
            made.os_packages.debian_mirror,
            made.os_packages.debian_keyring,
            made.os_packages.runtime_installer,
        ) == ("", "", "")

    def test_mirror_and_keyring(self) -> None:
        made = config(debian_mirror="http://a.example/debian", debian_keyring="keys/ours.asc")
        assert (made.os_packages.debian_mirror, made.os_packages.debian_keyring) == (
            "http://a.example/debian",
            "keys/ours.asc",
        )
        both = "https://a.example/{date}/main https://b.example/{date}/security"
        assert config({"HATCH_DOCKER_DEBIAN_MIRROR": both}).os_packages.debian_mirror == both

    def test_does_not_show_credentials_of_the_mirror(self) -> None:
        made = config(debian_mirror="http://rosa:s3cret@a.example/debian")
        assert "s3cret" in made.os_packages.debian_mirror
        assert "s3cret" not in repr(made)

    @pytest.mark.parametrize(
        ("written", "message"),
        [
            ("a.example", "this is not the URL of a mirror"),
            ("ftp://rosa:s3cret@a.example/debian", "this is not the URL of a mirror"),
            (
                "http://rosa:s3cret@a.example/mirror",
                "as the URL has no component 'debian'; set both URLs, separated by a space",
            ),
            ("http://a/debian http://b/debian http://c/debian", "expected at most two URLs"),
            ("", "an empty string"),
        ],
    )
    def test_invalid_mirrors(self, written: str, message: str) -> None:
        place, reported = problem(debian_mirror=written)
        assert place == "debian-mirror"
        assert message in reported
        assert "s3cret" not in reported

    @pytest.mark.parametrize("installer", ["archive", "engine"])
    def test_installers(self, installer: str) -> None:
        assert config(runtime_installer=installer).os_packages.runtime_installer == installer
        assert problem(runtime_installer="apt")[1].startswith("'apt' is not one of ")


class TestCompiling:
    def test_defaults(self) -> None:
        made = config()
        assert made.compiling.builder is None
        assert (made.compiling.no_binary, made.compiling.build_network) == ((), ())
        assert (made.compiling.build_packages, made.os_packages.runtime_packages) == ((), ())
        assert not made.compiling.only_in_builder

    def test_isolation(self) -> None:
        assert config(isolate="container").compiling.only_in_builder
        assert not config(isolate="process").compiling.only_in_builder
        assert problem(isolate="none")[1].startswith("'none' is not one of ")

    def test_builder_has_the_syntax_of_a_base(self) -> None:
        assert config(builder="alpine").compiling.builder == BaseSpec(transport="family", value="alpine")
        assert (
            config(builder="docker-daemon:team/builder").compiling.builder
            == config(base="docker-daemon:team/builder").base.spec
        )
        assert config({"HATCH_DOCKER_BUILDER": "oci:builder"}).compiling.builder == BaseSpec(
            transport="oci", value="builder"
        )
        assert problem(builder="alpin") == ("builder", problem(base="alpin")[1])

    @pytest.mark.parametrize("key", ["build-packages", "runtime-packages"])
    def test_os_packages(self, key: str) -> None:
        names = ["libffi-dev", "g++", "python3.13", "libffi-dev", "curl=8.5.0-r0", "openssl=1:3.0~rc1+dfsg_2"]
        expected = ("libffi-dev", "g++", "python3.13", "curl=8.5.0-r0", "openssl=1:3.0~rc1+dfsg_2")
        assert attrgetter(KEYS[key].attribute)(config(**{key: names})) == expected
        assert attrgetter(KEYS[key].attribute)(config({variable(key): "g++, libffi-dev"})) == ("g++", "libffi-dev")

    @pytest.mark.parametrize(
        "wrong",
        [
            "",
            "--allow-untrusted",
            "a b",
            "a=",
            "a=1 2",
            "a;b",
            "$(id)",
            "../x.deb",
            "a\n",
            "a@edge",
            "a>1",
            1,
        ],
    )
    def test_invalid_os_packages(self, wrong: object) -> None:
        assert problem(**{"build-packages": ["ok", wrong]})[0] == "build-packages[1]"
        assert problem(**{"runtime-packages": [wrong]})[0] == "runtime-packages[0]"

    @pytest.mark.parametrize("key", ["no-binary", "build-network"])
    def test_distributions(self, key: str) -> None:
        for written, expected in (
            (["Typing_Extensions", "typing.extensions", "psutil"], ("typing-extensions", "psutil")),
            ([":all:"], (":all:",)),
            ([":none:"], ()),
            ([], ()),
        ):
            assert attrgetter(KEYS[key].attribute)(config(**{key: written})) == expected
        assert attrgetter(KEYS[key].attribute)(config({variable(key): ":all:"})) == (":all:",)
        assert attrgetter(KEYS[key].attribute)(config({variable(key): "cffi,PyYAML"})) == ("cffi", "pyyaml")

    @pytest.mark.parametrize(
        ("written", "place", "message"),
        [
            ([":all:", "psutil"], "", "':all:' cannot be combined"),
            (["psutil", ":none:"], "", "':none:' cannot be combined"),
            (["psutil", ":al:"], "[1]", "':al:' is not a name"),
            (["psutil>=7"], "[0]", "is not a name"),
            (":all:", "", "expected a list of strings, got a string"),
            ([True], "[0]", "expected a string, got a boolean"),
        ],
    )
    @pytest.mark.parametrize("key", ["no-binary", "build-network"])
    def test_invalid_distributions(self, key: str, written: object, place: str, message: str) -> None:
        reported = problem(**{key: written})
        assert reported[0] == key + place
        assert message in reported[1]

    @pytest.mark.parametrize(
        ("written", "size"),
        [
            ("0", 0),
            ("6291456", 6 << 20),
            ("8388608b", 8 << 20),
            ("8192k", 8 << 20),
            ("512m", 512 << 20),
            ("512 MB", 512 << 20),
            ("4g", 4 << 30),
            ("4G", 4 << 30),
            ("1.5GiB", 3 << 29),
            ("0.1t", (1 << 40) // 10),
        ],
    )
    def test_memory(self, written: str, size: int) -> None:
        assert host_settings(HATCH_DOCKER_BUILD_MEMORY=written).build_memory == size

    @pytest.mark.parametrize(
        "wrong", ["much", "-1g", "1x", "1.g", ".5g", "1g 2m", "5m", "1", "9" * 19 + "t", "٤g", "1e3m"]
    )
    def test_invalid_memory(self, wrong: str) -> None:
        place, message = problem({"HATCH_DOCKER_BUILD_MEMORY": wrong})
        assert place == "HATCH_DOCKER_BUILD_MEMORY"
        assert "'512m'" in message or "engines take 6m and more" in message

    @pytest.mark.parametrize(("written", "count"), [("2", 2.0), ("1.5", 1.5), ("0.01", 0.01), ("0", 0.0)])
    def test_cpus(self, written: str, count: float) -> None:
        assert host_settings(HATCH_DOCKER_BUILD_CPUS=written).build_cpus == count

    @pytest.mark.parametrize("wrong", ["all", "-1", "0.001", "1025", "nan", "inf", "1e2", "1,5", "½"])
    def test_invalid_cpus(self, wrong: str) -> None:
        assert problem({"HATCH_DOCKER_BUILD_CPUS": wrong})[0] == "HATCH_DOCKER_BUILD_CPUS"

    @pytest.mark.parametrize(
        ("written", "seconds"), [("0", 0), ("90", 90), ("90s", 90), ("30m", 1800), ("1h", 3600), ("1h30m", 5400)]
    )
    def test_time_limits(self, written: str, seconds: int) -> None:
        assert host_settings(HATCH_DOCKER_BUILD_TIMEOUT=written).build_timeout == seconds
        assert host_settings().build_timeout == 3600

    @pytest.mark.parametrize("wrong", ["soon", "-1", "1d", "500ms", "1 h", "9" * 20, "9" * 20 + "h", "1.", "٣"])
    def test_invalid_time_limits(self, wrong: str) -> None:
        assert problem({"HATCH_DOCKER_BUILD_TIMEOUT": wrong})[0] == "HATCH_DOCKER_BUILD_TIMEOUT"

    @given(st.integers(6 << 10, 1 << 40), st.sampled_from("bkmgt"), st.sampled_from(["", "b", "ib", "B", "iB"]))
    def test_units_are_powers_of_1024(self, count: int, unit: str, rest: str) -> None:
        suffix = unit if unit == "b" else unit + rest
        expected = count * 1024 ** "bkmgt".index(unit)
        text = f"{count}{suffix}"
        if (6 << 20) <= expected < 2**63:
            assert host_settings(HATCH_DOCKER_BUILD_MEMORY=text).build_memory == expected
        else:
            assert problem({"HATCH_DOCKER_BUILD_MEMORY": text})


class TestNaming:
    @pytest.mark.parametrize(
        ("written", "message"),
        [
            ("app:1.0", "'1.0' is a tag: move it to `tags`"),
            ("app@sha256:" + "a" * 64, "has no digest"),
            ("registry.example/App", "'app'?"),
            ("", "an empty string"),
        ],
    )
    def test_invalid_images(self, written: str, message: str) -> None:
        assert message in problem(image=written)[1]

    @pytest.mark.parametrize(
        ("written", "message"),
        [
            ("{versoin}", "'{versoin}' is not a placeholder; the placeholders are {version}, {name}, {git-sha}"),
            ("a b", "is not a tag"),
            ("{version", "is not a tag"),
            ("-x", "is not a tag"),
            ("", "an empty string"),
        ],
    )
    def test_invalid_tag_templates(self, written: str, message: str) -> None:
        place, reported = problem(tags=["ok", written])
        assert place == "tags[1]"
        assert message in reported

    def test_tags_must_not_be_empty(self) -> None:
        assert problem(tags=[])[0] == "tags"

    def test_expands_tags_without_duplicates(self) -> None:
        made = expand_tags(
            ["{version}", "v{version}-{name}", "1.0", "{git-sha}"], version="1.0", name="a", git_sha="c0", place="tags"
        )
        assert made == ("1.0", "v1.0-a", "c0")

    def test_tag_needs_a_commit(self) -> None:
        with pytest.raises(ConfigError, match=r"HATCH_DOCKER_TAGS\[1\]: .*commit"):
            expand_tags(["x", "{git-sha}"], version="1", name="a", git_sha="", place="HATCH_DOCKER_TAGS")

    def test_expanded_tag_is_too_long(self) -> None:
        with pytest.raises(ConfigError, match="is not a tag"):
            expand_tags(["{name}"], version="1", name="a" * 129, git_sha="", place="tags")

    @given(
        st.lists(
            st.from_regex(
                r"([1-9]!)?[0-9](\.[0-9]){0,2}((a|b|rc)[0-9])?(\.post[0-9])?(\.dev[0-9])?(\+[a-z0-9](\.[a-z0-9]){0,2})?",
                fullmatch=True,
            ),
            min_size=2,
            max_size=2,
            unique=True,
        )
    )
    def test_two_versions_never_share_a_tag(self, versions: list[str]) -> None:
        one, other = (expand_tags(["{version}"], version=v, name="a", git_sha="", place="tags")[0] for v in versions)
        assert one != other
        assert check_tag(one) == one

    @pytest.mark.parametrize(
        ("written", "message"),
        [
            (3.13, 'expected a string in quotes, like "3.13", got a float'),
            ("3.13.5", "write '3.13', or set base = \"python:3.13.5-slim\" for a patch release"),
            ("2.7", "not a Python version of the form X.Y"),
            ("3.13\n", "not a Python version of the form X.Y"),
        ],
    )
    def test_python_versions(self, written: object, message: str) -> None:
        assert config(python="3.13").base.python == "3.13"
        assert message in problem(python=written)[1]

    @pytest.mark.parametrize(
        ("written", "message"),
        [
            (["windows/amd64"], "not a Linux platform"),
            (["linux amd64"], "is not a platform"),
            ([], "an empty list"),
            ("linux/arm64", "expected a list of strings"),
            (["all", "linux/arm64"], "'all' cannot be combined with other platforms"),
        ],
    )
    def test_platforms(self, written: object, message: str) -> None:
        names = ["aarch64", "linux/amd64", "linux/arm64", "linux/arm64/v8"]
        assert config(platforms=names).base.platforms == (Platform.parse("linux/arm64"), Platform.parse("linux/amd64"))
        assert message in problem(platforms=written)[1]

    def test_all_platforms_of_the_base(self) -> None:
        for made in (config(platforms="all"), config(platforms=["all"]), config({"HATCH_DOCKER_PLATFORMS": "all"})):
            assert made.base.platforms == "all"

    def test_normalizes_extras_and_groups(self) -> None:
        made = config(extras=["My_Extra", "my.extra"], dependency_groups=["Dev"])
        assert (made.packages.extras, made.packages.dependency_groups) == (("my-extra",), ("dev",))
        assert problem(extras=["a b"])[0] == "extras[0]"

    def test_never_shows_the_index_url(self) -> None:
        url = "https://user:secret@pypi.example/simple/"
        made = config(index_url=url)
        assert made.packages.index_url == url
        assert "secret" not in repr(made)
        for wrong in (
            "user:secret@pypi.example",
            "https://user:secret@",
            "https://u:secret@h:port/",
            "https://secret h",
        ):
            assert "secret" not in str(problem(index_url=wrong))

    def test_extras_and_groups_that_the_project_lacks(self) -> None:
        made = config({"HATCH_DOCKER_EXTRAS": "grpc,htpt"}, dependency_groups=["docs"])
        with pytest.raises(ConfigError) as caught:
            check_names(made.packages.extras, ["GRPC", "http"], place=made.place("extras"), what="extra")
        assert caught.value.problems == [
            ("HATCH_DOCKER_EXTRAS[1]", "the project has no extra 'htpt'; did you mean 'http'?"),
        ]
        groups = made.packages.dependency_groups
        with pytest.raises(ConfigError) as caught:
            check_names(groups, [], place=made.place("dependency-groups"), what="dependency group")
        assert caught.value.problems == [
            (f"{PLACE}.dependency-groups[0]", "the project has no dependency groups: remove 'docs'"),
        ]
        check_names(made.packages.extras, ["grpc", "htpt"], place="extras", what="extra")
        check_names(groups, ["Docs"], place="groups", what="dependency group")

    def test_unknown_output(self) -> None:
        made = config({"HATCH_DOCKER_OUTPUTS": "archive,puhs"})
        with pytest.raises(ConfigError) as caught:
            check_outputs(made.output.outputs, ["archive", "load", "push"], place=made.place("outputs"))
        message = "'puhs' is not one of 'archive', 'load', 'push'; did you mean 'push'?"
        assert caught.value.problems == [("HATCH_DOCKER_OUTPUTS[1]", message)]

    def test_default_script(self) -> None:
        for scripts, chosen in ((["serve"], "serve"), (["serve", "my_app"], "my_app"), ([], "")):
            assert default_script(scripts, project="My-App", place="entrypoint") == chosen
        with pytest.raises(ConfigError, match=r"^entrypoint: .*: 'a', 'b'"):
            default_script(["b", "a"], project="My-App", place="entrypoint")

    def test_push_needs_a_registry(self) -> None:
        with pytest.raises(ConfigError, match=r"^image: 'my-app' cannot be pushed"):
            check_push(Reference.parse("my-app"), "image")
        for image in ("acme/app", "registry.example/app"):
            check_push(Reference.parse(image), "image")


class TestRuntime:
    def test_commands(self) -> None:
        assert config(entrypoint=["a", "a", ""], cmd="serve").runtime.entrypoint == ("a", "a", "")
        assert config(cmd=[]).runtime.cmd == ()
        assert problem(entrypoint=["a", 1])[0] == "entrypoint[1]"
        assert problem(entrypoint=[""])[0] == "entrypoint[0]"
        assert "like ['python', '-m', 'my app']" in problem(entrypoint="python -m 'my app'")[1]

    @pytest.mark.parametrize(
        ("written", "expected"), [(8080, "8080/tcp"), ("8080", "8080/tcp"), ("53/udp", "53/udp"), ("080", "80/tcp")]
    )
    def test_ports(self, written: object, expected: str) -> None:
        assert config(ports=[written, written]).runtime.ports == (expected,)

    @pytest.mark.parametrize("written", [0, 65536, True, -1, "80/icmp", "80-90", "", "٨", 8.5])
    def test_invalid_ports(self, written: object) -> None:
        assert problem(ports=[written])[0] == "ports[0]"

    def test_environment(self) -> None:
        assert config(env={"A": "x=y\n", "_b": 1, "C": ""}).runtime.env == {"A": "x=y\n", "_b": "1", "C": ""}
        assert "got a boolean: write what the program reads" in problem(env={"A": True})[1]
        assert [place for place, _ in problems(env={"A": "\0", "B": 1.5, "C-D": [], "": "x"})] == [
            "env.A",
            "env.B",
            "env.C-D",
            "env.C-D",
            'env.""',
        ]

    def test_never_shows_values_of_the_environment(self) -> None:
        assert "secret" not in str(problem(env={"A": "secret\0"}))
        assert "secret" not in str(problem({"HATCH_DOCKER_ENV": "A=1,secret"}))
        assert "secret" not in str(problem({"HATCH_DOCKER_ENV": '{A = "secret'}))
        assert "secret" not in repr(config(env={"A": "secret"}))

    def test_paths_are_absolute_and_normalized(self) -> None:
        assert config(working_dir="//srv/./app/").runtime.working_dir == "/srv/app"
        assert config(working_dir="/").runtime.working_dir == "/"
        assert config(volumes=["/data", "/data/"]).runtime.volumes == ("/data",)
        for wrong in ("data", "/a/../b", "", "C:\\data"):
            assert problem(volumes=[wrong])[0] == "volumes[0]"
        assert problem(volumes=["/"]) == ("volumes[0]", "the whole image cannot be a volume")

    @pytest.mark.parametrize(
        ("written", "expected"), [(0, "0"), ("1000:1000", "1000:1000"), ("www-data", "www-data"), ("a:0", "a:0")]
    )
    def test_users(self, written: object, expected: str) -> None:
        assert config(user=written).runtime.user == expected

    @pytest.mark.parametrize("written", [-1, 2**32, "a b", "1:2:3", ":", "1:", "", "-a", True])
    def test_invalid_users(self, written: object) -> None:
        assert problem(user=written)[0] == "user"

    @pytest.mark.parametrize(
        ("written", "expected"),
        [("SIGTERM", "SIGTERM"), ("int", "SIGINT"), (9, "9"), ("15", "15"), ("SIGRTMIN+3", "SIGRTMIN+3")],
    )
    def test_signals(self, written: object, expected: str) -> None:
        assert config(stop_signal=written).runtime.stop_signal == expected

    def test_invalid_signals(self) -> None:
        assert problem(stop_signal="SIGTREM")[1] == "'SIGTREM' is not a signal; did you mean 'SIGTERM'?"
        for wrong in (0, 65, "SIGRTMIN+31", "", "99999"):
            assert problem(stop_signal=wrong)[0] == "stop-signal"

    def test_labels(self) -> None:
        assert config(labels={"a b": ""}).runtime.labels == {"a b": ""}
        assert [place for place, _ in problems(labels={"": "x"}, annotations={"a": 1})] == [
            'labels.""',
            "annotations.a",
        ]

    def test_healthcheck(self) -> None:
        made = config(
            healthcheck={
                "cmd": ["a", "b", "b"],
                "interval": "1m30s",
                "timeout": "1.5s",
                "start-period": "500ms",
                "start-interval": "2s",
                "retries": 3,
            }
        ).runtime.healthcheck
        assert made == Healthcheck(
            test=("CMD", "a", "b", "b"),
            interval=90 * 10**9,
            timeout=15 * 10**8,
            start_period=5 * 10**8,
            start_interval=2 * 10**9,
            retries=3,
        )

    @pytest.mark.parametrize("written", ["30", 30, "", "s", "1m 30s", "-1s", "0s", "1us", "9999999h", "1.s", "1d"])
    def test_invalid_durations(self, written: object) -> None:
        for key in ("timeout", "start-interval"):
            assert problem(healthcheck={"cmd": "x", key: written})[0] == f"healthcheck.{key}"

    @pytest.mark.parametrize(
        ("written", "place"),
        [
            ({}, "healthcheck"),
            ("curl", "healthcheck"),
            ({"cmd": []}, "healthcheck.cmd"),
            ({"cmd": 1}, "healthcheck.cmd"),
        ],
    )
    def test_healthcheck_needs_a_command(self, written: object, place: str) -> None:
        assert problem(healthcheck=written)[0] == place


class TestFiles:
    def test_all_keys(self) -> None:
        entry = {
            "from": "../conf",
            "into": "/etc/app",
            "include": ["*.toml"],
            "exclude": ["*~"],
            "mode": "0640",
            "owner": "1000:100",
        }
        assert config(extra_files=[entry]).output.extra_files == (
            ExtraFiles(
                source="../conf",
                into="/etc/app",
                include=("*.toml",),
                exclude=("*~",),
                mode=0o640,
                uid=1000,
                gid=100,
            ),
        )

    @pytest.mark.parametrize("owner", [7, "7"])
    def test_group_of_an_owner_without_a_group(self, owner: object) -> None:
        (made,) = config(extra_files=[{"from": "a", "into": "/a", "owner": owner}]).output.extra_files
        assert (made.uid, made.gid) == (7, 7)

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            ("into", "a"),
            ("into", "/a/"),
            ("into", "/a/../b"),
            ("mode", 0o755),
            ("mode", "888"),
            ("mode", "77777"),
            ("owner", "root"),
            ("owner", "1:"),
            ("owner", -1),
            ("include", "*.py"),
            ("exclude", ["[z-a]"]),
            ("form", "a"),
        ],
    )
    def test_mistakes(self, key: str, value: object) -> None:
        place, _ = problem(extra_files=[{"from": "a", "into": "/a"} | {key: value}])
        assert place.removeprefix("extra-files[0].").partition("[")[0] == key

    def test_prune_and_keep(self) -> None:
        made = config(prune=["tests", "pandas/_testing/", "*.md"], keep=["h5py", "scipy/**/tests/"])
        assert made.packages.prune == ("tests", "pandas/_testing/", "*.md")
        assert made.packages.keep == ("h5py", "scipy/**/tests/")
        assert config(prune=[]).packages.prune == ()
        assert set(PRUNED) == set(RULES)

    @pytest.mark.parametrize("wrong", ["!", "a\\", "[z-a]", "[[:x:]]", " "])
    def test_invalid_globs(self, wrong: str) -> None:
        assert [place for place, _ in problems(prune=[wrong], keep=[wrong])] == ["prune[0]", "keep[0]"]


class TestImage:
    @pytest.mark.parametrize(
        ("key", "value", "message"),
        [
            ("compression", "gz", "'gz' is not one of 'gzip', 'gzip-single', 'zstd'; did you mean 'gzip'?"),
            ("outputs", [], "an empty list"),
            ("max-layers", 2, "expected an integer from 3 to 100, got 2"),
            ("max-layers", True, "expected an integer, got a boolean"),
            ("created", "comit", "did you mean 'commit'?"),
            ("created", "2026-13-01", "is not a time"),
            ("created", 1, "expected"),
            ("prune", ["test"], "did you mean 'tests'?"),
        ],
    )
    def test_mistakes(self, key: str, value: object, message: str) -> None:
        assert message in problem(**{key: value})[1]

    @pytest.mark.parametrize(
        ("written", "expected"),
        [
            ("now", "now"),
            ("2026-01-31T12:00:00Z", "2026-01-31T12:00:00Z"),
            ("2026-01-31 12:00:00.999+02:00", "2026-01-31T10:00:00Z"),
            ("2026-01-31", "2026-01-31T00:00:00Z"),
            (datetime.date(2026, 1, 31), "2026-01-31T00:00:00Z"),
            (datetime.datetime(2026, 1, 31, 12), "2026-01-31T12:00:00Z"),
        ],
    )
    def test_times(self, written: object, expected: str) -> None:
        assert config(created=written).output.created == expected

    def test_created_time(self) -> None:
        def made(created: str, source_date_epoch: str | None = None, commit_time: int | None = 86400) -> str:
            return created_time(created, source_date_epoch=source_date_epoch, commit_time=commit_time, now=1.9)

        assert made("commit") == "1970-01-02T00:00:00Z"
        assert made("commit", commit_time=None) == made("epoch") == "1970-01-01T00:00:00Z"
        assert made("now") == "1970-01-01T00:00:01Z"
        assert made("2026-01-31T12:00:00Z") == "2026-01-31T12:00:00Z"
        assert made("2026-01-31T12:00:00Z", "") == "2026-01-31T12:00:00Z"
        assert made("2026-01-31T12:00:00Z", "60") == "1970-01-01T00:01:00Z"

    @pytest.mark.parametrize("wrong", ["x", "-1", "1.5", "9" * 12, "9" * 5000, "٣", "1\n"])
    def test_invalid_source_date_epoch(self, wrong: str) -> None:
        with pytest.raises(ConfigError, match=r"^SOURCE_DATE_EPOCH: expected whole seconds since 1970"):
            created_time("now", source_date_epoch=wrong, commit_time=None, now=0)

    @given(st.integers(0, 253402300799))
    def test_round_trip_of_every_second(self, seconds: int) -> None:
        written = created_time("now", source_date_epoch=str(seconds), commit_time=None, now=0)
        assert config(created=written).output.created == written
        assert datetime.datetime.fromisoformat(written.replace("Z", "+00:00")).timestamp() == seconds


class TestCaching:
    def test_one_repository_or_several(self) -> None:
        one, two = (Reference.parse(f"registry.example/team/{name}") for name in ("cache", "other"))
        assert config().caching == Caching()
        assert config(cache=str(one)).caching == Caching(repositories=(one,), mode="read-write")
        assert config(cache=[str(one), str(two), str(one)]).caching.repositories == (one, two)
        assert config({"HATCH_DOCKER_CACHE": f"{one}, {two}"}).caching.repositories == (one, two)
        assert config({"HATCH_DOCKER_CACHE": "[]"}, cache=str(one)).caching.repositories == ()
        assert config({"HATCH_DOCKER_CACHE_MODE": "read"}, cache=str(one)).caching.mode == "read"

    @pytest.mark.parametrize(
        "wrong", ["", 1, ["a", 1], "registry.example/cache:1", f"c@sha256:{'0' * 64}", "https://x/y"]
    )
    def test_other_values_are_mistakes(self, wrong: object) -> None:
        assert problems(cache=wrong)

    def test_modes(self) -> None:
        assert problems(**{"cache-mode": "write"})

    def test_the_key_is_a_long_secret_that_is_not_shown(self) -> None:
        assert host_settings(HATCH_DOCKER_CACHE_KEY="k" * 32).cache_key == "k" * 32
        assert "kkkk" not in repr(host_settings(HATCH_DOCKER_CACHE_KEY="k" * 32))
        for short in ("s3cret", "[s3cret", "{s3cret"):
            ((place, message),) = problems({"HATCH_DOCKER_CACHE_KEY": short})
            assert place == "HATCH_DOCKER_CACHE_KEY"
            assert "s3cret" not in message


class TestOptions:
    def made(self, table: object, environ: Mapping[str, str], **options: Option) -> Config:
        made, _, mistakes = parse_leniently(table, environ, options=_table(options))
        refuse(mistakes)
        return made

    def test_override_variables_and_the_table(self) -> None:
        made = self.made({"user": "1"}, {"HATCH_DOCKER_USER": "2"}, user=Option(place="--set user", text="3"))
        assert made.runtime.user == "3"
        assert made.place("user") == "--set user"

    def test_add_to_the_table_or_the_variable(self) -> None:
        labels = Option(place="--label", value={"b": "2", "c": "3,4"}, adds=True)
        assert self.made({"labels": {"a": "1", "b": "1"}}, {}, labels=labels).runtime.labels == {
            "a": "1",
            "b": "2",
            "c": "3,4",
        }
        assert self.made({"labels": {"a": "1"}}, {"HATCH_DOCKER_LABELS": "b=1"}, labels=labels).runtime.labels == {
            "b": "2",
            "c": "3,4",
        }

    def test_mistakes_of_an_addition_and_of_the_table_are_reported_together(self) -> None:
        options = {"labels": Option(place="--label", value={"": "2"}, adds=True)}
        _, _, mistakes = parse_leniently({"labels": {"a": 1}}, {}, options=options)
        assert [place for place, _ in mistakes["labels"]] == ["tool.hatch-docker.labels.a", '--label.""']

    def test_whole_references_replace_image_and_tags(self) -> None:
        names = Option(place="--tag", value=["acme/app", "registry.example:5000/app:1", "acme/app:latest"])
        assert self.made({"image": "x", "tags": ["y"]}, {}, references=names).naming.references == (
            Reference.parse("acme/app:latest"),
            Reference.parse("registry.example:5000/app:1"),
        )

    @pytest.mark.parametrize("key", ["references", "manifest-annotations", "index-annotations"])
    def test_keys_of_options_are_no_keys_of_the_table(self, key: str) -> None:
        assert parse_leniently({key: []}, {})[2][key] == [(f"tool.hatch-docker.{key}", f"unknown key{_near(key)}")]
        with pytest.raises(ConfigError, match="unknown key"):
            set_option(f"{key}=x", "--set")

    def test_checks_without_a_project(self) -> None:
        options = {
            "references": Option(place="--tag", value=["Acme/App", f"a@sha256:{'0' * 64}"]),
            "max-layers": Option(place="--set max-layers", text="many"),
        }
        with pytest.raises(ConfigError) as caught:
            check_options(options)
        assert [place for place, _ in caught.value.problems] == ["--tag[0]", "--tag[1]", "--set max-layers"]

    @pytest.mark.parametrize(
        ("text", "key", "value"),
        [
            ("base=alpine", "base", "alpine"),
            ("extras = a,b", "extras", " a,b"),
            ('env={A = "x=y"}', "env", '{A = "x=y"}'),
            ("extras=", "extras", ""),
        ],
    )
    def test_set_a_key(self, text: str, key: str, value: str) -> None:
        assert set_option(text, "--set") == (key, Option(place=f"--set {key}", text=value))

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("base", "'base' is not of the form KEY=VALUE"),
            ("bse=alpine", "bse: unknown key; did you mean 'base'?"),
            ("=alpine", "'=alpine': unknown key"),
            ("threads=1", "threads: this is a setting of the host, not of the image: set HATCH_DOCKER_THREADS"),
        ],
    )
    def test_set_no_key(self, text: str, message: str) -> None:
        with pytest.raises(ConfigError) as caught:
            set_option(text, "--set")
        assert caught.value.problems == [("--set", message)]


def _near(key: str) -> str:
    return {
        "manifest-annotations": "; did you mean 'annotations'?",
        "index-annotations": "; did you mean 'annotations'?",
    }.get(key, "")
