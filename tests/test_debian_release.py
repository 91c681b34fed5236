from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from debian_maker import NOW, WEEK, damaged, release_text, written
from hypothesis import given, settings
from mutations import many

from hatch_docker.debian.release import Release, check_not_older, check_release, packages_paths, parse_release
from hatch_docker.errors import DebianError

FILES = {"main/binary-amd64/Packages": b"x", "main/binary-amd64/Packages.xz": b"yy", "main/binary-all/Packages": b"z"}
TEXT = release_text(FILES)


def parsed(**fields: str) -> Release:
    return parse_release(release_text(FILES, **fields), place="Release")


def checked(suite: str = "trixie", *, now: datetime = NOW, **fields: str) -> None:
    check_release(parsed(**fields), suite, now=now, place="Release")


class TestParse:
    def test_fields(self) -> None:
        release = parsed(Version="13.8")
        assert (release.suite, release.codename, release.version) == ("stable", "trixie", "13.8")
        assert (release.date, release.valid_until) == (NOW, NOW + WEEK)
        assert release.architectures == ("all", "amd64", "arm64")
        assert release.acquire_by_hash
        assert release.files["main/binary-amd64/Packages.xz"].size == 2

    def test_time_with_single_digits(self) -> None:
        release = parsed(Date="Sat, 1 Feb 2025 9:05:07 UTC")
        assert release.date == datetime(2025, 2, 1, 9, 5, 7, tzinfo=timezone.utc)

    def test_without_valid_until(self) -> None:
        assert parsed(Valid_Until="").valid_until is None

    def test_components_of_the_security_archive(self) -> None:
        assert parsed(Components="updates/main updates/contrib").components == ("main", "contrib")

    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ({"Date": ""}, "no Date"),
            ({"Date": "yesterday"}, "must be a time in UTC"),
            ({"Date": "Sat, 21 Nov 2026 09:15:44 CET"}, "must be a time in UTC"),
            ({"Date": "Sat, 31 Nov 2026 09:15:44 UTC"}, "must be a time in UTC"),
            ({"Valid_Until": "never"}, "must be a time in UTC"),
            ({"SHA256": ""}, "lists no file in SHA256"),
            ({"SHA256": "\n abc 1 main/binary-amd64/Packages"}, "invalid line in SHA256"),
            ({"SHA256": f"\n {'0' * 64} -1 main/x"}, "invalid line in SHA256"),
            ({"SHA256": f"\n {'0' * 64} 1 ../x"}, "outside of its suite"),
            ({"SHA256": f"\n {'0' * 64} 1 /etc/x"}, "outside of its suite"),
        ],
    )
    def test_rejects_invalid_releases(self, fields: dict[str, str], message: str) -> None:
        with pytest.raises(DebianError, match=message) as caught:
            parsed(**fields)
        assert caught.value.place == "Release"

    @settings(max_examples=many(200))
    @given(damaged(TEXT, (b"\n", b"\n\n", b": ", b"\n ", b"Date: x\n", b"\xff")))
    def test_reads_or_rejects_damaged_releases(self, data: bytes) -> None:
        try:
            release = parse_release(data, place="Release")
            check_release(release, "trixie", now=NOW, place="Release")
        except DebianError:
            return
        assert "trixie" in (release.suite, release.codename)
        assert all(len(file.sha256) == 64 and file.size >= 0 for file in release.files.values())


class TestChecks:
    @pytest.mark.parametrize("suite", ["trixie", "stable"])
    def test_suite_and_codename(self, suite: str) -> None:
        checked(suite)

    @pytest.mark.parametrize("suite", ["bookworm", "trixie-security", ""])
    def test_another_suite(self, suite: str) -> None:
        with pytest.raises(DebianError, match="is the Release of trixie"):
            checked(suite)

    def test_expires_at_valid_until(self) -> None:
        checked(now=NOW + WEEK)
        with pytest.raises(DebianError, match="has expired: it was valid until") as caught:
            checked(now=NOW + WEEK + timedelta(seconds=1))
        assert "clock" in caught.value.hint

    def test_does_not_expire_without_valid_until(self) -> None:
        checked(now=NOW + 500 * WEEK, Valid_Until="")

    def test_date_in_the_future_means_a_wrong_clock(self) -> None:
        checked(Date=written(NOW + timedelta(hours=12)))
        with pytest.raises(DebianError, match="is in the future") as caught:
            checked(Date=written(NOW + timedelta(hours=25)))
        assert "check this machine's clock" in caught.value.hint

    def test_older_release(self) -> None:
        check_not_older(parsed(), NOW, place="Release")
        with pytest.raises(DebianError, match="older than an earlier one"):
            check_not_older(parsed(), NOW + timedelta(seconds=1), place="Release")


class TestIndexes:
    def test_architecture_all_in_the_same_index(self) -> None:
        assert packages_paths(parsed(), "main", "amd64", place="") == ["main/binary-amd64/Packages"]

    def test_architecture_all_in_a_separate_index(self) -> None:
        release = parsed(No_Support_for_Architecture_all="")
        assert packages_paths(release, "main", "amd64", place="") == [
            "main/binary-amd64/Packages",
            "main/binary-all/Packages",
        ]

    @pytest.mark.parametrize(("component", "architecture"), [("main", "s390x"), ("ours", "amd64")])
    def test_missing_component_or_architecture(self, component: str, architecture: str) -> None:
        with pytest.raises(DebianError, match=f"has no {component}/binary-{architecture}/Packages") as caught:
            packages_paths(parsed(), component, architecture, place="Release")
        assert "amd64, arm64" in caught.value.hint
        assert "main, contrib" in caught.value.hint
