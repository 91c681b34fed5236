"""Credentials: where they are found, for which registry, and that broken ones are skipped."""

from __future__ import annotations

import base64
import contextlib
import json
import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatch_docker.errors import RegistryError
from hatch_docker.oci.registry import challenge
from hatch_docker.oci.registry.auth import Credential, Credentials


def encoded(user: str, password: str) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


def written(path: Path, document: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


def among(tmp_path: Path, document: Any, **environ: str) -> Credentials:
    return Credentials(files=(written(tmp_path / "config.json", document),), environ=environ)


def helper(folder: Path, name: str, script: str) -> str:
    """Create a credential helper; return a PATH that contains it."""
    folder.mkdir(exist_ok=True)
    program = folder / f"docker-credential-{name}"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return str(folder)


def test_podmans_files_take_precedence_over_dockers(tmp_path: Path) -> None:
    environ = {
        "REGISTRY_AUTH_FILE": str(tmp_path / "chosen.json"),
        "XDG_RUNTIME_DIR": str(tmp_path / "run"),
        "XDG_CONFIG_HOME": str(tmp_path / "xdg"),
        "DOCKER_CONFIG": str(tmp_path / "docker"),
    }
    places = ["docker/config.json", "xdg/containers/auth.json", "run/containers/auth.json", "chosen.json"]
    credentials = Credentials.from_environment(environ, tmp_path)
    for place in places:
        path = written(tmp_path / place, {"auths": {"registry.example": encoded(place, "secret")}})
        credential = credentials.for_registry("registry.example")
        assert (credential.username, credential.source) == (place, str(path))


def test_files_in_the_home_directory_are_the_default(tmp_path: Path) -> None:
    credentials = Credentials.from_environment({}, tmp_path)
    written(tmp_path / ".docker/config.json", {"auths": {"a.example": encoded("docker", "x")}})
    written(tmp_path / ".config/containers/auth.json", {"auths": {"b.example": encoded("podman", "x")}})
    assert credentials.for_registry("a.example").username == "docker"
    assert credentials.for_registry("b.example").username == "podman"


@pytest.mark.parametrize(
    "key", ["https://index.docker.io/v1/", "index.docker.io", "docker.io", "https://registry-1.docker.io"]
)
def test_docker_hub_has_several_names(tmp_path: Path, key: str) -> None:
    assert among(tmp_path, {"auths": {key: encoded("me", "x")}}).for_registry("docker.io").username == "me"


@pytest.mark.parametrize(
    "key", ["Registry.example:5000", "https://registry.example:5000/v2/", "registry.example:5000/"]
)
def test_keys_are_hosts_or_urls(tmp_path: Path, key: str) -> None:
    assert among(tmp_path, {"auths": {key: encoded("me", "x")}}).for_registry("registry.example:5000").username == "me"


@pytest.mark.parametrize(
    "key", ["registry.example", "registry.example:5001", "example:5000", "my-registry.example:5000"]
)
def test_registry_gets_no_credentials_of_another(tmp_path: Path, key: str) -> None:
    assert among(tmp_path, {"auths": {key: encoded("me", "x")}}).for_registry("registry.example:5000").anonymous


def test_longest_namespace_wins(tmp_path: Path) -> None:
    keys = ("quay.example", "quay.example/acme", "quay.example/acme/app", "quay.example/ac")
    credentials = among(tmp_path, {"auths": {key: encoded(key, "x") for key in keys}})
    for repository, key in (
        ("acme/app", "quay.example/acme/app"),
        ("acme/other", "quay.example/acme"),
        ("acme-two/app", "quay.example"),
    ):
        assert credentials.for_registry("quay.example", repository).username == key


def test_passwords_may_contain_colons_and_tokens_are_kept_separate(tmp_path: Path) -> None:
    auths = {
        "a.example": encoded("me", "p:w:é"),
        "b.example": {"username": "me", "password": "x"},
        "c.example": {**encoded("<token>", ""), "identitytoken": "refresh"},
        "d.example": {"registrytoken": "bearer"},
    }
    credentials = among(tmp_path, {"auths": auths})
    assert credentials.for_registry("a.example").password == "p:w:é"
    assert credentials.for_registry("b.example").password == "x"
    assert credentials.for_registry("c.example").identity_token == "refresh"
    assert credentials.for_registry("d.example").registry_token == "bearer"


def test_repr_has_no_secrets(tmp_path: Path) -> None:
    credential = Credential(username="me", password="hush-1", identity_token="hush-2", registry_token="hush-3")
    credentials = among(tmp_path, {}, SECRET_IN_ENVIRONMENT="hush-4")
    assert "hush" not in repr(credential) + repr(credentials)


def test_helpers_take_precedence_over_the_file(tmp_path: Path) -> None:
    path = helper(
        tmp_path / "bin", "mine", 'read server; echo "{\\"Username\\": \\"$server\\", \\"Secret\\": \\"s\\"}"'
    )
    document = {
        "auths": {"registry.example": encoded("file", "x"), "https://index.docker.io/v1/": {}},
        "credsStore": "mine",
    }
    credentials = among(tmp_path, document, PATH=path)
    credential = credentials.for_registry("registry.example", "acme/app")
    assert (credential.username, credential.password) == ("registry.example", "s")
    assert "docker-credential-mine" in credential.source
    assert credentials.for_registry("docker.io").username == "https://index.docker.io/v1/"


def test_helper_of_the_registry_takes_precedence(tmp_path: Path) -> None:
    answer = 'echo "{\\"Username\\": \\"<token>\\", \\"Secret\\": \\"own\\"}"'
    path = helper(tmp_path / "bin", "own", answer)
    helper(tmp_path / "bin", "store", "exit 1")
    document = {"credHelpers": {"registry.example": "own"}, "credsStore": "store"}
    credential = among(tmp_path, document, PATH=path).for_registry("registry.example")
    assert (credential.identity_token, credential.username, credential.problems) == ("own", "", ())


@pytest.mark.parametrize(
    "script",
    [
        "echo 'error: password hush' ; exit 1",
        "echo 'not json hush'",
        'echo "[]"',
        "kill -9 $$",
        'echo "{\\"Username\\": 1, \\"Secret\\": \\"hush\\"}"',
    ],
)
def test_reports_and_skips_a_broken_helper(tmp_path: Path, script: str) -> None:
    path = helper(tmp_path / "bin", "broken", script)
    document = {"credsStore": "broken", "auths": {"known.example": encoded("me", "x")}}
    credentials = among(tmp_path, document, PATH=path)
    assert credentials.for_registry("known.example").username == "me"
    stranger = credentials.for_registry("other.example")
    assert stranger.anonymous
    assert "docker-credential-broken" in stranger.problems[0]
    assert "hush" not in str(stranger.problems)


def test_does_not_wait_for_a_helper_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hatch_docker.oci.registry.auth._HELPER_SECONDS", 0.05)
    path = helper(tmp_path / "bin", "hangs", "exec /bin/sleep 60")
    credential = among(tmp_path, {"credsStore": "hangs"}, PATH=path).for_registry("a.example")
    assert credential.anonymous
    assert "TimeoutExpired" in credential.problems[0]


def test_helper_without_credentials_is_no_problem(tmp_path: Path) -> None:
    path = helper(tmp_path / "bin", "empty", "echo 'credentials not found in native keychain'; exit 1")
    assert among(tmp_path, {"credsStore": "empty"}, PATH=path).for_registry("a.example") == Credential()


@pytest.mark.parametrize("name", ["missing", "../evil", "", 7, None, ["a"]])
def test_reports_missing_and_invalid_helpers(tmp_path: Path, name: object) -> None:
    assert among(tmp_path, {"credHelpers": {"a.example": name}}, PATH="").for_registry("a.example").anonymous


@pytest.mark.parametrize("text", ["{", "[]", '"auths"', "[" * 100_000, '{"auths": {"a.example": {"auth": "%%%"}}}'])
def test_reports_and_skips_a_broken_file(tmp_path: Path, text: str) -> None:
    good = written(tmp_path / "good.json", {"auths": {"b.example": encoded("me", "x")}})
    broken = written(tmp_path / "broken.json", text)
    credentials = Credentials(files=(broken, tmp_path / "missing", tmp_path, good))
    assert credentials.for_registry("b.example").username == "me"
    assert any(str(broken) in problem for problem in credentials.for_registry("a.example").problems)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.just("\ud800"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(auths=json_values, helpers=json_values, entry=json_values)
def test_no_file_raises(tmp_path_factory: pytest.TempPathFactory, auths: Any, helpers: Any, entry: Any) -> None:
    if isinstance(auths, dict):
        auths = {**auths, "a.example": entry}
    path = tmp_path_factory.getbasetemp() / "fuzz.json"
    path.write_text(json.dumps({"auths": auths, "credHelpers": helpers, "credsStore": entry}))
    credential = Credentials(files=(path,)).for_registry("a.example", "x/y")
    challenge.basic(credential)
    challenge.token_request({"realm": "https://a.example/"}, [], credential, plain_http=False, place="p")


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ('Basic realm="x"', {"basic": {"realm": "x"}}),
        ("BASIC", {"basic": {}}),
        (
            'Bearer realm="https://a.example/t",service="s",scope="repository:x:pull,push repository:y:pull"',
            {
                "bearer": {
                    "realm": "https://a.example/t",
                    "service": "s",
                    "scope": "repository:x:pull,push repository:y:pull",
                }
            },
        ),
        (
            r'Negotiate YII=, Basic realm="a \"b\", c", charset=UTF-8 , bearer Realm = "https://a.example/"',
            {
                "negotiate": {"yii": ""},
                "basic": {"realm": 'a "b", c', "charset": "UTF-8"},
                "bearer": {"realm": "https://a.example/"},
            },
        ),
        ('Bearer realm="https://a.example', {"bearer": {"realm": ""}, "https:": {}}),
        ("", {}),
    ],
)
def test_challenges(header: str, expected: dict[str, dict[str, str]]) -> None:
    challenges = challenge.parse(header)
    assert {name: challenges.get(name) for name in expected if name != "https:"} == {
        name: value for name, value in expected.items() if name != "https:"
    }


@given(header=st.text(alphabet='aB"\\=, \t\r\n;/:é', max_size=60), body=st.binary(max_size=40))
def test_no_header_or_answer_raises_other_errors(header: str, body: bytes) -> None:
    bearer = challenge.parse(header).get("bearer", {})
    for attempt in (
        lambda: challenge.token_request({**bearer, "realm": header}, ["s"], Credential(), plain_http=True, place="p"),
        lambda: challenge.token_of(body, "p"),
    ):
        with contextlib.suppress(RegistryError):
            attempt()


@pytest.mark.parametrize("token", ['"a\\r\\nX: y"', '""', "1", "null", '"é"'])
def test_refuses_a_token_that_is_not_a_header_value(token: str) -> None:
    with pytest.raises(RegistryError):
        challenge.token_of(f'{{"token": {token}}}'.encode(), "p")


def test_password_goes_over_plain_http_only_if_the_registry_uses_it() -> None:
    bearer, credential = {"realm": "http://a.example/t"}, Credential(username="me", password="x")
    with pytest.raises(RegistryError, match="plain HTTP"):
        challenge.token_request(bearer, ["s"], credential, plain_http=False, place="p")
    assert (
        challenge.token_request(bearer, ["s"], credential, plain_http=True, place="p").url
        == "http://a.example/t?scope=s"
    )


def test_requests_the_needed_scopes_and_those_of_the_challenge() -> None:
    bearer = {"realm": "https://a.example/t?x=1", "service": "s", "scope": "repository:x:pull repository:alias:pull"}
    request = challenge.token_request(bearer, ["repository:x:pull"], Credential(), plain_http=False, place="p")
    assert request.url == (
        "https://a.example/t?x=1&service=s&scope=repository%3Ax%3Apull&scope=repository%3Aalias%3Apull"
    )
    assert not request.headers
