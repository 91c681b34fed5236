from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatch_docker.errors import InvalidReferenceError
from hatch_docker.oci.reference import Reference, check_host, check_tag

DIGEST = "sha256:" + "0a" * 32

_component = st.from_regex(r"[a-z0-9]{1,3}((\.|_|__|-{1,3})[a-z0-9]{1,3}){0,2}", fullmatch=True)
_hosts = st.from_regex(
    r"(localhost|[a-zA-Z0-9]{1,3}(-[a-z0-9])?(\.[a-z0-9]{1,3}){1,2}|\[::1\])(:[0-9]{1,5})?", fullmatch=True
)
_tags = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,9}", fullmatch=True)


@st.composite
def references(draw: st.DrawFn) -> str:
    parts = draw(st.lists(_component, min_size=1, max_size=3))
    host = draw(st.none() | _hosts | st.sampled_from(["docker.io", "localhost:5000"]))
    name = "/".join([*([host] if host else []), *parts])
    tag, digest = draw(st.none() | _tags), draw(st.sampled_from([None, DIGEST]))
    return name + (f":{tag}" if tag else "") + (f"@{digest}" if digest else "")


@pytest.mark.parametrize(
    ("text", "whole", "familiar"),
    [
        ("python", "docker.io/library/python", "python"),
        ("python:3.13-slim", "docker.io/library/python:3.13-slim", "python:3.13-slim"),
        ("acme/app", "docker.io/acme/app", "acme/app"),
        ("docker.io/python", "docker.io/library/python", "python"),
        ("index.docker.io/acme/app", "docker.io/acme/app", "acme/app"),
        ("localhost/app", "localhost/app", "localhost/app"),
        ("registry.example:5000/a/b/c:1", "registry.example:5000/a/b/c:1", "registry.example:5000/a/b/c:1"),
        ("[::1]:5000/app", "[::1]:5000/app", "[::1]:5000/app"),
        (f"app:1@{DIGEST}", f"docker.io/library/app:1@{DIGEST}", f"app:1@{DIGEST}"),
        # Without the registry, each of these would be another image.
        ("docker.io/library/a/b", "docker.io/library/a/b", "docker.io/library/a/b"),
        ("docker.io/localhost/app", "docker.io/localhost/app", "docker.io/localhost/app"),
        ("docker.io/a_b.c/app", "docker.io/a_b.c/app", "docker.io/a_b.c/app"),
    ],
)
def test_parses_names_as_docker_does(text: str, whole: str, familiar: str) -> None:
    parsed = Reference.parse(text)
    assert str(parsed) == whole
    assert parsed.familiar == familiar


@given(references())
def test_both_forms_of_a_reference_are_equal(text: str) -> None:
    try:
        parsed = Reference.parse(text)
    except InvalidReferenceError:
        return  # such as a first part with a dot and an underscore: neither a host nor a repository of Docker Hub
    assert Reference.parse(str(parsed)) == parsed
    assert Reference.parse(parsed.familiar) == parsed


@given(st.text() | st.text("aA0.:/@_-[]\n", max_size=12) | references().flatmap(lambda r: st.text().map(r.__add__)))
def test_any_text_is_a_reference_or_an_invalid_reference_error(text: str) -> None:
    try:
        parsed = Reference.parse(text)
    except InvalidReferenceError as error:
        assert error.message  # noqa: PT017 (either outcome is fine)
    else:
        assert Reference.parse(str(parsed)) == parsed


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "it names no repository"),
        ("registry.example/", "it names no repository"),
        ("Acme/App", "a repository is in lower case ('acme/app'?)"),
        ("a//b", "'a//b' is not a repository"),
        ("a..b", "is not a repository"),
        ("app:", "'' is not a tag"),
        ("app:a b", "'a b' is not a tag"),
        ("app:" + "a" * 129, "is not a tag"),
        ("app@sha256:abc", "'sha256:abc' is not a digest"),
        ("app@md5:" + "a" * 32, "is not a digest"),
        ("-a.example/app", "'-a.example' is not a registry's host"),
        ("a" * 256, "longer than 255 characters"),
        ("app\n", "is not a repository"),
    ],
)
def test_errors_name_the_problem(text: str, message: str) -> None:
    with pytest.raises(InvalidReferenceError) as caught:
        Reference.parse(text)
    assert message in caught.value.message


def test_identifier_is_the_digest_if_there_is_one() -> None:
    assert Reference.parse("app").identifier == "latest"
    assert Reference.parse("app:1").identifier == "1"
    assert Reference.parse(f"app:1@{DIGEST}").identifier == DIGEST


def test_changes_tag_and_digest() -> None:
    both = Reference.parse(f"acme/app:1@{DIGEST}")
    assert both.with_tag("2") == Reference.parse("acme/app:2")
    assert both.with_digest(DIGEST) == Reference.parse(f"acme/app@{DIGEST}")
    with pytest.raises(InvalidReferenceError):
        both.with_tag("a/b")
    with pytest.raises(InvalidReferenceError):
        both.with_digest("1")


@pytest.mark.parametrize("tag", ["", "-a", ".a", "a+b", "a\n", "é", "a" * 129])
def test_invalid_tags(tag: str) -> None:
    with pytest.raises(InvalidReferenceError, match="is not a tag"):
        check_tag(tag)


@pytest.mark.parametrize("host", ["registry.example", "localhost:5000", "10.0.0.1", "[::1]:5000", "a"])
def test_hosts(host: str) -> None:
    assert check_host(host) == host


@pytest.mark.parametrize("host", ["", "http://a", "a/b", "a:", "a_b", "u@a", "a b", "-a"])
def test_invalid_hosts(host: str) -> None:
    with pytest.raises(InvalidReferenceError, match="a registry's host"):
        check_host(host)
