from __future__ import annotations

import itertools
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mutations import many
from packages_maker import index_of, installed_of, paragraph_of

from hatch_docker.debian.candidates import conflicts_with, satisfies
from hatch_docker.debian.packages import Package, PackageIndex
from hatch_docker.debian.resolve import resolve
from hatch_docker.debian.version import compare, key
from hatch_docker.errors import DebianError, DependencyError


def solve(
    requested: str,
    *paragraphs: str,
    installed: Sequence[str] = (),
    assume_installed: Iterable[str] = (),
    architecture: str = "amd64",
) -> list[str]:
    """The packages to install in order, from an index of these paragraphs."""
    found = resolve(
        requested.split(),
        [index_of(*paragraphs)],
        architecture=architecture,
        installed=installed_of(*installed),
        assume_installed=set(assume_installed),
    )
    return [str(package) for package in found]


def refusal(
    requested: str, *paragraphs: str, installed: Sequence[str] = (), assume_installed: Iterable[str] = ()
) -> str:
    with pytest.raises(DependencyError) as error:
        solve(requested, *paragraphs, installed=installed, assume_installed=assume_installed)
    return error.value.message


P = paragraph_of


def test_dependencies_come_first() -> None:
    paragraphs = P("a", Depends="b, c"), P("b", Depends="d"), P("c", Pre_Depends="d"), P("d"), P("unrelated")
    assert solve("a", *paragraphs) == ["d 1", "b 1", "c 1", "a 1"]


def test_recommended_packages_are_not_installed() -> None:
    assert solve("a", P("a", Recommends="b", Suggests="b"), P("b")) == ["a 1"]


def test_no_request() -> None:
    assert solve("", P("a")) == []


def test_takes_the_newest_version_of_all_indexes_and_of_equal_ones_the_first() -> None:
    security = index_of(P("a", "1.0-1+deb13u2"), P("b", "1"), suite="trixie-security")
    suite = index_of(P("a", "1.0-1+deb13u1", Depends="b"), P("a", "1.0-1~deb13u9"), P("b", "1"), P("c", Depends="a"))
    found = resolve(["c", "b"], [security, suite], architecture="amd64")
    assert [(str(each), each.suite) for each in found] == [
        ("a 1.0-1+deb13u2", "trixie-security"),
        ("b 1", "trixie-security"),
        ("c 1", "trixie"),
    ]


def test_takes_an_older_version_if_it_is_requested() -> None:
    paragraphs = P("a", Depends="b (<< 3)"), P("b", "1"), P("b", "3"), P("b", "2")
    assert solve("a", *paragraphs) == ["b 2", "a 1"]
    assert solve("a b=1", *paragraphs) == ["b 1", "a 1"]
    assert solve("b", *paragraphs) == ["b 3"]


@pytest.mark.parametrize(
    ("alternatives", "chosen"),
    [
        ("b | c", ["b 1", "a 1"]),
        ("missing | c", ["c 1", "a 1"]),
        ("b (>= 2) | c", ["c 1", "a 1"]),
        ("c | b", ["c 1", "a 1"]),
        ("broken | c", ["c 1", "a 1"]),
    ],
)
def test_takes_the_first_alternative_that_works(alternatives: str, chosen: list[str]) -> None:
    paragraphs = P("a", Depends=alternatives), P("b"), P("c"), P("broken", Depends="c, missing")
    assert solve("a", *paragraphs) == chosen


def test_prefers_an_alternative_that_is_chosen_anyway() -> None:
    paragraphs = P("a", Depends="b | c"), P("b"), P("c"), P("z", Depends="y"), P("y", Depends="c")
    assert solve("a", *paragraphs, installed=[P("c")]) == ["a 1"]
    assert solve("a z", *paragraphs) == ["c 1", "a 1", "y 1", "z 1"]
    assert solve("a c", *paragraphs) == ["c 1", "a 1"]


def test_provides_satisfies_a_name() -> None:
    mawk, gawk = P("mawk", Provides="awk"), P("gawk", Provides="awk")
    assert solve("a", P("a", Depends="awk"), gawk, mawk) == ["gawk 1", "a 1"]
    assert solve("a mawk", P("a", Depends="awk"), gawk, mawk) == ["mawk 1", "a 1"]
    assert solve("a", P("a", Depends="awk"), gawk, mawk, installed=[mawk]) == ["a 1"]
    first = P("mawk", Provides="awk", Priority="required")
    assert solve("a", P("a", Depends="awk"), gawk, first) == ["mawk 1", "a 1"]
    assert solve("a", P("a", Depends="awk"), gawk, mawk, P("awk", "0")) == ["awk 0", "a 1"]


def test_only_versioned_provides_satisfies_a_version() -> None:
    paragraphs = P("a", Depends="api (>= 2)"), P("b", "9", Provides="api"), P("c", Provides="api (= 1)")
    assert "a → api (>= 2): not in trixie" in refusal("a", *paragraphs)
    assert solve("a", *paragraphs, P("d", Provides="api (= 2.1)")) == ["d 1", "a 1"]


@pytest.mark.parametrize(
    ("relation", "multi_arch", "satisfied"),
    [
        ("b:any", "allowed", True),
        ("b:any", "foreign", False),
        ("b:any", "no", False),
        ("b:amd64", "same", True),
        ("b:arm64", "same", False),
        ("b", "no", True),
    ],
)
def test_architecture_qualifiers(relation: str, multi_arch: str, satisfied: bool) -> None:
    paragraphs = P("a", Depends=relation), P("b", Multi_Arch=multi_arch)
    if satisfied:
        assert solve("a", *paragraphs) == ["b 1", "a 1"]
    else:
        assert refusal("a", *paragraphs) == f"a → {relation}: trixie has b 1, but not for that architecture"


def test_ignores_packages_of_other_architectures() -> None:
    paragraphs = P("a", "2", Architecture="arm64"), P("a", "1"), P("b", Architecture="all", Depends="a")
    assert solve("b", *paragraphs) == ["a 1", "b 1"]
    assert solve("b", *paragraphs, architecture="arm64") == ["a 2", "b 1"]


def test_circular_dependencies() -> None:
    paragraphs = P("a", Depends="b"), P("b", Depends="c"), P("c", Depends="a, b")
    assert sorted(solve("a", *paragraphs)) == ["a 1", "b 1", "c 1"]


def test_pre_depends_come_first_also_in_circular_dependencies() -> None:
    paragraphs = P("a", Depends="b"), P("b", Pre_Depends="a")
    assert solve("a", *paragraphs) == solve("b", *paragraphs) == ["a 1", "b 1"]


def test_installed_packages_are_not_installed_again() -> None:
    paragraphs = P("a", Depends="b"), P("b", "2", Depends="c"), P("c")
    assert solve("a", *paragraphs, installed=[P("b", "1")]) == ["a 1"]
    assert solve("a b", *paragraphs, installed=[P("b", "2"), P("a", "1")]) == []
    assert solve("a b=1", *paragraphs, P("b", "1"), installed=[P("b", "1"), P("a", "1")]) == []
    assert solve("only-installed", *paragraphs, installed=[P("only-installed")]) == []


def test_requested_packages_that_are_installed_are_upgraded() -> None:
    paragraphs = P("a", "2", Depends="b"), P("b", "3"), P("b", "2")
    assert solve("a", *paragraphs, installed=[P("a", "1"), P("b", "1")]) == ["a 2"]
    assert solve("b", *paragraphs, installed=[P("b", "1")]) == ["b 3"]
    assert solve("b", *paragraphs, installed=[P("b", "4")]) == []


def test_installed_packages_are_upgraded_if_a_dependency_needs_it() -> None:
    paragraphs = P("a", Depends="b (>= 2)"), P("b", "2", Depends="c"), P("c"), P("b-data", "2", Depends="b (= 2)")
    installed = P("b", "1"), P("b-data", "1", Depends="b (= 1)")
    assert solve("a", *paragraphs, installed=installed) == ["c 1", "b 2", "a 1", "b-data 2"]
    assert solve("a", *paragraphs[:3], installed=installed[:1]) == ["c 1", "b 2", "a 1"]
    stuck = refusal("a", *paragraphs[:3], installed=installed)
    assert stuck.startswith("a → b → b-data (>> 1) | b (= 1): b-data 1 is installed, and trixie has")


def test_installed_packages_are_never_downgraded() -> None:
    message = refusal("a", P("a", Depends="b (<< 2)"), P("b", "1"), installed=[P("b", "2")])
    assert message == "a → b (<< 2): b 2 is installed, and trixie has no newer version that fits"
    assert "b 2 is installed" in refusal("b=1", P("b", "1"), installed=[P("b", "2")])


@pytest.mark.parametrize("field", ["Breaks", "Conflicts"])
def test_rejects_conflicting_packages(field: str) -> None:
    enemy = P("c", **{field: "b (<< 2)"})
    assert refusal("a c", P("a", Depends="b"), P("b"), enemy) in {
        "a → b: b 1 conflicts with c 1, which is requested",
        "c: c 1 conflicts with b 1 (a → b)",
    }
    assert solve("a c", P("a", Depends="b"), P("b", "2"), enemy) == ["b 2", "a 1", "c 1"]
    assert solve("a c", P("a", Depends="b"), P("b", "2"), P("b"), enemy) == ["b 2", "a 1", "c 1"]
    assert solve("a c", P("a", Depends="b | d"), P("b"), P("d"), enemy) == ["d 1", "a 1", "c 1"]


@pytest.mark.parametrize("field", ["Breaks", "Conflicts"])
def test_installed_packages_that_conflict_are_upgraded_or_stay(field: str) -> None:
    paragraphs = P("a", **{field: "b (<< 2)"}), P("b", "2")
    assert solve("a", *paragraphs, installed=[P("b")]) == ["a 1", "b 2"]
    assert refusal("a", paragraphs[0], installed=[P("b")]) == "a: a 1 conflicts with b 1, which is installed"
    assert refusal("b", P("b"), installed=[P("a", **{field: "b"})]) == "b: b 1 conflicts with a 1, which is installed"


def test_ignores_conflicts_with_other_architectures() -> None:
    enemy = P("a", Conflicts="b:i386, c:i386, d:amd64")
    assert solve("a b c", enemy, P("b"), P("c", Architecture="all"), installed=[]) == ["a 1", "b 1", "c 1"]
    assert refusal("a d", enemy, P("d"))


def test_installed_packages_do_not_satisfy_other_architectures() -> None:
    assert "a → b:i386" in refusal("a", P("a", Depends="b:i386"), P("b"), installed=[P("b")])


def test_a_package_may_conflict_with_a_name_it_provides() -> None:
    exim, postfix = (P(name, Provides="mta", Conflicts="mta") for name in ("exim", "postfix"))
    assert solve("exim", exim, postfix) == ["exim 1"]
    assert refusal("exim postfix", exim, postfix)


def test_rejects_two_versions_of_a_package() -> None:
    paragraphs = P("a", Depends="c (= 1)"), P("b", Depends="c (= 2)"), P("c", "1"), P("c", "2")
    assert refusal("a b", *paragraphs) == "b → c (= 2): c 1 is needed too (a → c)"


def test_assumed_packages_count_as_installed() -> None:
    paragraphs = P("a", Depends="debconf (>= 0.5) | debconf-2.0, awk, b"), P("debconf", Depends="perl"), P("b")
    awks = P("mawk", Provides="awk"), P("gawk", Provides="awk")
    assert solve("a", *paragraphs, *awks, assume_installed=["debconf", "awk"]) == ["b 1", "a 1"]
    assert solve("a", *paragraphs, *awks, assume_installed=["debconf", "gawk"]) == ["mawk 1", "b 1", "a 1"]
    assert "requested, but this image leaves it out" in refusal("b", *paragraphs, assume_installed=["b"])


def test_reports_all_unknown_names_with_similar_ones() -> None:
    message = refusal("libpq gti curl", P("libpq5"), P("libpq-dev"), P("git"), P("curl"))
    assert message.splitlines() == [
        "there is no package 'gti' in trixie; similar are git",
        "  there is no package 'libpq' in trixie; similar are libpq5, libpq-dev",
    ]
    assert refusal("zzz", P("a")) == "there is no package 'zzz' in trixie"


def test_reports_a_missing_version_with_the_available_ones() -> None:
    assert refusal("a=3", P("a", "1"), P("a", "2")) == "there is no version 3 of 'a'; trixie has 2, 1"


def test_rejects_a_requested_name_with_several_providers() -> None:
    mawk, gawk = P("mawk", Provides="awk"), P("gawk", Provides="awk")
    assert refusal("awk", mawk, gawk) == "'awk' is provided by several packages: name one of gawk, mawk"
    assert solve("awk", mawk) == ["mawk 1"]
    assert solve("awk", mawk, gawk, installed=[mawk]) == []
    assert solve("awk", mawk, P("awk"), installed=[mawk]) == ["awk 1"]


@pytest.mark.parametrize("root", ["a b", "", "-a", "a=", "a (>= 1)", "a=1=2", "ä", "a=1 2", "a\n"])
def test_rejects_invalid_names(root: str) -> None:
    with pytest.raises(DebianError, match="is not"):
        resolve([root], [index_of(P("a"))], architecture="amd64")


def test_reports_an_unmet_dependency_with_its_chain() -> None:
    git, curl = P("git", Depends="libc6, libcurl"), P("libcurl", Depends="libfoo (>= 2) | libbar")
    assert refusal("git", git, curl, P("libc6")) == "git → libcurl → libfoo (>= 2) | libbar: not in trixie"
    assert refusal("git", git, curl, P("libc6"), P("libfoo", "1.5")) == (
        "git → libcurl → libfoo (>= 2) | libbar: trixie has libfoo 1.5"
    )


def test_reports_the_first_of_failed_alternatives() -> None:
    paragraphs = P("a", Depends="b | c"), P("b", Depends="one"), P("c", Depends="two")
    assert refusal("a", *paragraphs) == "a → b → one: not in trixie"


def test_finds_a_missing_dependency_behind_many_choices_quickly() -> None:
    choices = [f"x{number} | y{number}" for number in range(60)]
    pairs = [P(f"{letter}{number}") for number in range(60) for letter in "xy"]
    needy = P("a", Depends=", ".join([*choices, "p | q"])), P("p", Depends="none"), P("q", Depends="none")
    assert refusal("a", *needy, *pairs) == "a → p → none: not in trixie"


def test_avoids_a_conflict_behind_many_choices() -> None:
    choices = [f"x{number} | y{number}" for number in range(60)]
    pairs = [P(f"{letter}{number}") for number in range(60) for letter in "xy"]
    late = P("late", Conflicts="x0"), P("later", Conflicts="x0")
    found = solve("a", P("a", Depends=", ".join([*choices, "late | later"])), *pairs, *late)
    assert {"y0 1", "x1 1", "late 1"} <= set(found)


def test_gives_up_an_endless_search() -> None:
    # The pigeonhole principle: each hole takes one pigeon, and there are fewer holes than pigeons.
    pigeons, holes = range(10), range(9)
    needs = ", ".join(" | ".join(f"p{pigeon}h{hole}" for hole in holes) for pigeon in pigeons)
    nests = [
        P(f"p{pigeon}h{hole}", Conflicts=", ".join(f"p{other}h{hole}" for other in pigeons if other != pigeon))
        for pigeon, hole in itertools.product(pigeons, holes)
    ]
    assert "too many ways" in refusal("a", P("a", Depends=needs), *nests)


def test_reports_a_damaged_paragraph_with_the_package() -> None:
    with pytest.raises(DebianError) as error:
        solve("a", P("a", Depends="b"), P("b", Version="~~_"))
    assert error.value.place == "trixie: Packages: b"


def test_the_order_of_requests_does_not_matter() -> None:
    paragraphs = (
        P("a", Depends="x | y"),
        P("b", Depends="y | x"),
        P("c", Depends="z"),
        P("x"),
        P("y"),
        P("z", Depends="y"),
    )
    assert {tuple(solve(" ".join(roots), *paragraphs)) for roots in itertools.permutations("abc")} == {
        ("y 1", "a 1", "b 1", "z 1", "c 1")
    }


ARCHIVE = (
    P("app", Depends="lib (>= 2), mta | mail, awk"),
    P("lib", "2.0-1+b1", Depends="lib-data (= 2.0-1)", Breaks="old-lib (<< 2)", Multi_Arch="same"),
    P("lib-data", "2.0-1", Architecture="all"),
    P("mail", Provides="mail-agent"),
    P("mawk", Provides="awk", Priority="required"),
    P("gawk", Provides="awk"),
    P("tool", Depends="script:any, base (>= 1) | base-too, api (>= 3)"),
    P("script", Multi_Arch="allowed", Pre_Depends="lib"),
    P("api-1", Provides="api (= 1)"),
    P("api-4", Provides="api (= 4~rc1)"),
    P("base", "1.1"),
    P("base-data", "1.1", Depends="base (= 1.1)"),
    P("needs-new-base", Depends="base (>= 1.1~)"),
    P("peaceful", Depends="old-lib | other"),
    P("old-lib", "1.9"),
    P("other", Conflicts="gawk"),
    P("not-any", Depends="base:any"),
    P("needs-version", Depends="mail-agent (>= 1)"),
    P("needs-older", Depends="base (<< 1)"),
)
STATUS = (P("base", "1.0"), P("base-data", "1.0", Depends="base (= 1.0)"), P("perl", "5"))


@pytest.fixture(scope="module")
def apt(tmp_path_factory: pytest.TempPathFactory) -> Sequence[str]:
    """An apt-get command that simulates, with the packages of ARCHIVE, and those of STATUS installed."""
    root = tmp_path_factory.mktemp("apt")
    fields = "Description: x\nMaintainer: x\n"
    (root / "Packages").write_text("\n".join(each + fields for each in ARCHIVE))
    (root / "status").write_text("\n".join(f"{each}{fields}Status: install ok installed\n" for each in STATUS))
    (root / "sources.list").write_text(f"deb [trusted=yes] file:{root} ./\n")
    (root / "lists" / "partial").mkdir(parents=True)
    (root / "none").mkdir()
    options = {
        "Dir::Etc": root / "none",
        "Dir::Etc::SourceList": root / "sources.list",
        "Dir::State::Lists": root / "lists",
        "Dir::State::Status": root / "status",
        "Dir::Cache": root / "none",
        "APT::Architecture": "amd64",
        "APT::Architectures": "amd64",
        "APT::Sandbox::User": "",
    }
    command = ["apt-get", *itertools.chain(*(("-o", f"{name}={value}") for name, value in options.items()))]
    subprocess.run([*command, "update"], check=True, capture_output=True)
    return [*command, "install", "--simulate", "--no-install-recommends"]


@pytest.mark.skipif(not shutil.which("apt-get"), reason="apt-get is not installed")
@pytest.mark.parametrize(
    "requested",
    ["app", "app gawk", "tool", "app tool", "needs-new-base", "base-data", "lib old-lib", "peaceful", "peaceful gawk",
     "peaceful lib", "other gawk", "not-any", "needs-version", "needs-older", "script=1", "api-1 tool", "perl"],
)  # fmt: skip
def test_installs_what_apt_installs(apt: Sequence[str], requested: str) -> None:
    ran = subprocess.run([*apt, *requested.split()], check=False, capture_output=True, text=True)
    expected = re.findall(r"^Inst (\S+) (?:\[\S+\] )?\((\S+) ", ran.stdout, re.MULTILINE)
    assert not re.search("^Remv", ran.stdout, re.MULTILINE)
    try:
        found = solve(requested, *ARCHIVE, installed=STATUS)
    except DependencyError:
        assert ran.returncode != 0
    else:
        assert ran.returncode == 0, ran.stderr
        assert sorted(found) == sorted(map(" ".join, expected))


# A small archive, of which all sets of packages can be tried.
NAMES = "abcd"
RELATIONS = st.builds(
    lambda name, version: f"{name} ({version})" if version else name,
    st.sampled_from([*NAMES, "virtual"]),
    st.sampled_from(["", "", "= 1", ">= 2", "<< 2"]),
)
FIELD = st.lists(st.lists(RELATIONS, min_size=1, max_size=2).map(" | ".join), max_size=2).map(", ".join)
ENEMIES = st.lists(RELATIONS, max_size=1).map(", ".join)
PROVIDED = st.sampled_from(["", "", "virtual", "virtual (= 2)", "a"])


@st.composite
def archives(draw: st.DrawFn) -> dict[tuple[str, str], str]:
    """Paragraphs by name and version."""
    known = [(name, version) for name in NAMES for version in "12" if draw(st.integers(0, 3))]
    return {
        (name, version): P(name, version, Depends=draw(FIELD), Conflicts=draw(ENEMIES), Provides=draw(PROVIDED))
        for name, version in known
    }


def satisfied(package: Package, there: Iterable[Package]) -> list[bool]:
    """Whether each dependency of the package is satisfied."""
    clauses = (*package.pre_depends, *package.depends)
    return [any(satisfies(other, each) for each in clause for other in there) for clause in clauses]


def valid(there: Mapping[str, Package], installed: Mapping[str, Package]) -> bool:
    """Whether new packages have their dependencies and no conflicts, and installed ones keep their dependencies."""
    new = [each for name, each in there.items() if installed.get(name) != each]
    if not all(all(satisfied(each, there.values())) for each in new):
        return False
    kept = [each for name, each in there.items() if installed.get(name) == each]
    for each in kept:
        if any(
            was and not now
            for was, now in zip(satisfied(each, installed.values()), satisfied(each, there.values()), strict=True)
        ):
            return False
    older = (each.name in installed and compare(each.version, installed[each.name].version) <= 0 for each in new)
    return not any(older) and not any(
        conflicts_with(one, two) for one in new for two in there.values() if one is not two
    )


def all_sets(index: PackageIndex, installed: Mapping[str, Package]) -> Iterator[dict[str, Package]]:
    """Every set with all installed packages, in any version, and other packages in at most one version."""
    options = [[*([installed[name]] if name in installed else [None]), *index.packages(name)] for name in NAMES]
    for chosen in itertools.product(*options):
        yield {each.name: each for each in chosen if each is not None}


@settings(max_examples=many(40))
@given(archives(), st.sets(st.sampled_from(NAMES), min_size=1, max_size=2), st.data())
def test_finds_a_valid_solution_if_there_is_one(
    archive: dict[tuple[str, str], str], roots: set[str], data: st.DataObject
) -> None:
    index = index_of(*archive.values())
    names = (
        data.draw(st.lists(st.sampled_from(sorted(archive)), max_size=2, unique_by=lambda key: key[0]))
        if archive
        else []
    )
    installed = {name: installed_of(archive[name, version])[0] for name, version in names}

    def is_satisfied(there: Mapping[str, Package]) -> bool:
        """Whether the requested packages are installed, upgraded if they were installed before."""
        newest = {root: max((key(each.version) for each in index.packages(root)), default=key("0")) for root in roots}
        fresh = (root not in installed or key(there[root].version) >= newest[root] for root in roots)
        return roots <= there.keys() and all(fresh)

    possible = any(valid(there, installed) and is_satisfied(there) for there in all_sets(index, installed))
    try:
        found = resolve(roots, [index], architecture="amd64", installed=installed.values())
    except DependencyError:
        assert not possible
    else:
        there = installed | {package.name: package for package in found}
        assert valid(there, installed)
        provided = {name for each in there.values() for name in each.names}
        virtual = {root for root in roots if not index.packages(root) and root not in installed}
        assert virtual <= provided
        assert virtual or is_satisfied(there)
