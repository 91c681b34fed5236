from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from dpkg_maker import make_deb

from hatch_docker.debian.deb import Deb
from hatch_docker.dpkg.scripts import alternatives_of, check_scripts, copies_of, why_needed
from hatch_docker.errors import PackageError

Make = Callable[..., Deb]
BLOCK = "# Automatically added by {}/13.11\n{}\n# End automatically added section\n"


@pytest.fixture
def deb(tmp_path: Path) -> Make:
    def make(text: str, script: str = "postinst", name: str = "thing", shell: str = "#!/bin/sh") -> Deb:
        return make_deb(tmp_path, name, {}, scripts={script: f"{shell}\nset -e\n{text}"})

    return make


NEEDLESS = {
    "nothing": "exit 0\n",
    "the loader's cache": "ldconfig\n",
    "by its path": 'if [ "$1" = configure ]; then\n  /sbin/ldconfig\nfi\n',
    "bytecode": BLOCK.format("dh_python3", "if command -v py3compile >/dev/null 2>&1; then\n\tpy3compile -p thing\nfi"),
    "services": BLOCK.format("dh_installsystemd", "deb-systemd-helper unmask x >/dev/null || true"),
    "menus": "update-mime-database /usr/share/mime\nupdate-desktop-database -q || :\n",
    "a trigger": 'case "$1" in\n  configure)\n    dpkg-trigger --no-await ldconfig\n    ;;\nesac\n',
    "an older version": 'if dpkg --compare-versions "$2" lt-nl 1.2; then\n  mv /etc/a /etc/b\nfi\n',
    "an upgrade": 'if [ "$1" = "upgrade" ]; then\n  cp -a /etc/a /etc/b\nfi\n',
    "an upgrade in one line": 'if test "$1" = upgrade; then mv /etc/a /etc/b; fi\n',
    "a transition": 'if [ "$1" = configure ] && dpkg --compare-versions "$2" lt-nl 1.2~; then\n  adduser x\nfi\n',
    "other calls": 'case "$1" in\n  configure) ;;\n  abort-upgrade|abort-remove)\n    useradd x\n  ;;\nesac\n',
    "removing": "rm -f /var/cache/thing/old\n",
    "usrmerge": 'dpkg-divert --package a --no-rename --divert "/lib/a.usr-is-merged" --add "/lib/a"\n',
    "printing": "cat <<EOF\nadduser and mkdir are only words here\nEOF\necho 'see: mkdir' >&2\n",
    "alternatives": "update-alternatives --install /usr/bin/vi vi /usr/bin/vim 30 \\\n  --slave /usr/a a /usr/b\n",
    "quietly": "which foo > /dev/null 2>&1 || true\n",
    "a function": "tell() {\n  echo yes\n}\ntell\n",
    "a question": 'if [ "$(dpkg-divert --listpackage /bin/a)" = b ]; then echo yes; fi\n',
    "searches": "find /x -name y | sort -u | sed -n 's/a/b/p' | awk '{print $1}' | xargs -r -n 1 rm -f\n",
    "debconf": ". /usr/share/debconf/confmodule\ndb_get x/y || true\n",
    "at the end": "trap 'rm -f /tmp/x' EXIT\nexec 3>&1\n",
    "a message": 'echo "called with unknown argument \\`$1\'" >&2\n',
    "a case in one line": 'case "$1" in configure) true;; esac\n',
    "a function in one line": "tell() { echo yes; }\ntell\n",
    "whether a program is there": '[ -x "$(command -v thing)" ] || exit 0\n',
    "a long value": 'slaves="$slaves \\\n --slave \\\n /usr/share/man/$x \\\n $x"\n',
    "a newer version": 'if dpkg --compare-versions "$2" ge 1.2; then\n  mv /etc/a /etc/b\nfi\n',
    "if there was a version": 'if [ "$2" ] && dpkg --compare-versions "$2" lt 1.2; then\n  mv /etc/a /etc/b\nfi\n',
    "what dpkg left": "if [ -f /etc/a.dpkg-bak ]; then\n  mv /etc/a.dpkg-bak /etc/b\nfi\n",
    "a function that is not called": "make() {\n  adduser x\n}\nmake_all()\n{\n  make\n}\n",
    "a function for an upgrade": 'make() {\n  adduser x\n}\nif [ "$1" = upgrade ]; then\n  make\nfi\n',
    "a conffile": "ucf --three-way --debconf-ok /usr/share/x/a.conf /etc/a.conf >/dev/null\nucfr x /etc/a.conf\n",
    "conffiles": 'for i in a b; do\n  ucf --sum-file /x/$i.md5 "/usr/share/x/$i" "/etc/x/.$i"\ndone\n',
    "a conffile that is gone": "ucf --purge /etc/$name\n",
    "a diversion that is gone": "dpkg-divert --remove --package x --rename --divert /b/a /a\n",
    "a driver": 'if ! odbcinst -q -d -n "X" >/dev/null; then\n  odbcinst -i -d -f /usr/share/x/driver.ini 1>&2\nfi\n',
    "another": "if ! dpkg-statoverride --list /x >/dev/null; then echo no; fi\n",
}


@pytest.mark.parametrize("text", NEEDLESS.values(), ids=NEEDLESS.keys())
@pytest.mark.parametrize("script", ["preinst", "postinst"])
def test_needless(deb: Make, text: str, script: str) -> None:
    assert why_needed(deb(text, script)) == ""
    check_scripts([deb(text, script)])


NEEDED = {
    "a user": ("adduser --system thing\n", "runs adduser"),
    "by its path": ("/usr/sbin/adduser --system thing\n", "runs adduser"),
    "after a condition": ("if ! getent group x >/dev/null; then\n  groupadd -r x\nfi\n", "runs groupadd"),
    "as an older version": ('if dpkg --compare-versions "$2" lt 1.2; then\n  mkdir /x\nfi\n', "runs mkdir"),
    "as an older version, or the same": ('if dpkg --compare-versions "$2" le 1; then\n  mkdir /x\nfi\n', "runs mkdir"),
    "as a newer version": ('if dpkg --compare-versions "$2" ge-nl 1; then\n  mkdir /x\nfi\n', "runs mkdir"),
    "than another version": ('if dpkg --compare-versions 1.2 gt "$2"; then\n  mkdir /x\nfi\n', "runs mkdir"),
    "in a function": ("make() {\n  adduser x\n}\nmake\n", "runs adduser"),
    "in a function of a function": ("one()\n{\n  adduser x\n}\ntwo() {\n  one\n}\ntwo || true\n", "runs adduser"),
    "in a function at the end": ("end() {\n  adduser x\n}\ntrap end EXIT\n", "runs adduser"),
    "in a function without an end": ("make() {\n  adduser x\n  }\n", "runs adduser"),
    "after a function that is redirected": (
        "a() {\n  :\n} >&2\nadduser x\nb() {\n  :\n}\n",
        "runs adduser",
    ),
    "unless dpkg left something": ("if [ ! -f /etc/a.dpkg-old ]; then\n  mkdir /x\nfi\n", "runs mkdir"),
    "a conffile of a variable": ("ucf $made /etc/x.conf\n", "runs ucf"),
    "a conffile of a function": ("put() {\n  ucf $1 /etc/x\n}\nput a\n", "runs ucf"),
    "a driver of a variable": ("odbcinst -i -d -f $template\n", "runs odbcinst"),
    "a data source": ("odbcinst -i -s -f /usr/share/x/source.ini\n", "runs odbcinst"),
    "in one line": ('[ -n "$1" ] && mkdir -p /var/lib/x || true\n', "runs mkdir"),
    "in a pipe": ("echo x | tee /etc/x\n", "runs tee"),
    "after preparations": ("mkdir -p /var/lib/x\nadduser --system x\nchown x /var/lib/x\n", "runs adduser"),
    "in a substitution": ("a=$(make-it /etc/x)\n", "runs make-it"),
    "for the first time, too": (
        'case "$1" in\n  configure|upgrade)\n    mkfontdir /x\n    ;;\nesac\n',
        "runs mkfontdir",
    ),
    "otherwise": ('if dpkg --compare-versions "$2" lt 1; then\n  :\nelse\n  mkdir /x\nfi\n', "runs mkdir"),
    "or the first time": ('if [ -z "$2" ] || dpkg --compare-versions "$2" lt 1; then\n  mkdir /x\nfi\n', "runs mkdir"),
    "after a block": (BLOCK.format("dh_python3", "py3compile") + "mkdir /x\n", "runs mkdir"),
    "an unknown block": (BLOCK.format("dh_unknown", "mkdir /x"), "runs mkdir"),
    "a file": ("echo 1 > /etc/thing.conf\n", "writes to /etc/thing.conf"),
    "a file of lines": ("cat > /etc/x <<EOF\nline\nEOF\n", "writes to /etc/x"),
    "a diversion": ("dpkg-divert --add --rename --divert /bin/a.real /bin/a\n", "runs dpkg-divert"),
    "a file in place": ("sed -E -i 's/a/b/' /etc/x\n", "runs sed to change something"),
    "files that it finds": ("find /var/lib/x -exec chown x {} +\n", "runs find to change something"),
    "files that it sorts": ("sort -o /etc/x /etc/x\n", "runs sort to change something"),
    "by awk": ("awk -i inplace '{}' /etc/x\n", "runs awk to change something"),
    "by a program of awk": ("awk 'BEGIN { system(\"adduser x\") }'\n", "runs awk to run something"),
    "a program for each": ("cat /x | xargs -n 1 adduser\n", "runs adduser"),
    "a foreign architecture": ("dpkg --add-architecture i386\n", "runs dpkg to change something"),
    "a program that a variable names": ('"$HELPER" --install\n', 'runs "$HELPER"'),
    "a program with a default": ("${HELPER:-adduser} x\n", "runs ${HELPER:-adduser}"),
    "a program of its own": ("exec /usr/lib/thing/configure.real\n", "runs /usr/lib/thing/configure.real"),
    "another script": (". /usr/share/thing/setup.sh\n", "reads /usr/share/thing/setup.sh"),
    "a text": ("eval 'adduser x'\n", "runs adduser"),
    "a text of a variable": ("eval $CALL\n", "runs $CALL"),
    "something at the end": ("trap 'adduser x' EXIT\n", "runs adduser"),
    "with an environment": ("env -i A=1 adduser x\n", "runs adduser"),
    "in a case of one line": ("case $1 in configure) adduser x;; esac\n", "runs adduser"),
    "in a function of one line": ("make() { adduser x; }\nmake\n", "runs adduser"),
    "in a group": ("{ adduser x; }\n", "runs adduser"),
    "in a subshell": ("(adduser x)\n", "runs adduser"),
    "its own program": ("thing-setup --all\n", "runs thing-setup"),
}


@pytest.mark.parametrize(("text", "why"), NEEDED.values(), ids=NEEDED.keys())
def test_needed(deb: Make, text: str, why: str) -> None:
    assert why_needed(deb(text)) == f"its postinst {why}"


def test_other_scripts_are_needed(deb: Make) -> None:
    assert why_needed(deb("", shell="#!/usr/bin/perl")) == "its postinst is not a shell script"


@pytest.mark.parametrize("text", ["a() {\n" * 10_000, "a() {\n b\n}\n" * 5_000, "ucf\n" + "for i in a b; do\n" * 3_000])
def test_analyzes_many_functions_and_loops_quickly(deb: Make, text: str) -> None:
    begin = time.process_time()
    why_needed(deb(text))
    assert time.process_time() - begin < 20


@pytest.mark.parametrize("text", ["\n" * 60_000, "a=b " * 15_000, "# nothing\n" * 10_000])
def test_analyzes_long_scripts_quickly_or_not_at_all(deb: Make, text: str) -> None:
    assert why_needed(deb(text)) == ("its postinst is too long to be analyzed" if len(text) > 1 << 16 else "")


def test_packages_that_work_without_their_scripts(deb: Make) -> None:
    assert why_needed(deb("mkdir /x\n", name="base-files")) == ""
    assert why_needed(deb("mkdir /x\n", name="python3.13-minimal")) == ""
    assert why_needed(deb("mkdir /x\n", name="hunspell-en-us")) == ""
    assert why_needed(deb("mkdir /x\n", name="python3.13-venv")) == ""
    assert why_needed(deb("mkdir /x\n", name="python3.13-doc"))


def test_reports_all_packages(tmp_path: Path) -> None:
    scripts = {"postinst": "#!/bin/sh\nadduser x\n"}
    debs = [make_deb(tmp_path, name, {}, scripts=scripts) for name in ("one", "two")]
    with pytest.raises(PackageError) as caught:
        check_scripts(debs)
    assert "one does not work without its script: its postinst runs adduser" in caught.value.message
    assert "two does not work" in caught.value.message


def test_suggests_replacements(deb: Make) -> None:
    with pytest.raises(PackageError) as caught:
        check_scripts([deb("locale-gen\n", name="locales")])
    assert "instead of locales, use locales-all" in caught.value.hint


def test_copies(deb: Make) -> None:
    text = (
        "folder=/usr/share/x\n"
        'for i in a b; do\n  ucf --three-way $folder/$i "/etc/x/$i"\ndone\n'
        "odbcinst -i -d -f /usr/share/x/driver.ini\n"
        'if [ "$1" = upgrade ]; then\n  ucf /usr/share/x/old /etc/x/old\nfi\n'
        "ucf --purge /etc/x/gone\nucf $unknown /etc/x/c\nucf /usr/share/../x /etc/x/d\nucf /usr/x /etc/.wh.x\n"
    )
    found = [
        ("usr/share/x/a", "etc/x/a", False),
        ("usr/share/x/b", "etc/x/b", False),
        ("usr/share/x/driver.ini", "etc/odbcinst.ini", True),
    ]
    assert copies_of([deb(text)]) == found
    # A package that works without its script gets none.
    assert copies_of([deb(text, name="procps")]) == []


class TestAlternatives:
    def test_in_quotes(self, deb: Make) -> None:
        text = 'd=/usr/bin\nupdate-alternatives --install "$d/a" a \'/usr/bin/b\' "30"\n'
        assert alternatives_of([deb(text)]) == ([("/usr/bin/a", "a", "/usr/bin/b", 30)], [])

    def test_with_slaves(self, deb: Make) -> None:
        text = (
            "update-alternatives --quiet --install /usr/bin/awk awk /usr/bin/mawk 5 \\\n"
            "  --slave /usr/share/man/man1/awk.1.gz awk.1.gz /usr/share/man/man1/mawk.1.gz \\\n"
            "  --slave /usr/bin/nawk nawk /usr/bin/mawk\n"
        )
        assert alternatives_of([deb(text)]) == (
            [
                ("/usr/bin/awk", "awk", "/usr/bin/mawk", 5),
                ("/usr/share/man/man1/awk.1.gz", "awk.1.gz", "/usr/share/man/man1/mawk.1.gz", 5),
                ("/usr/bin/nawk", "nawk", "/usr/bin/mawk", 5),
            ],
            [],
        )

    def test_in_a_loop(self, deb: Make) -> None:
        text = (
            "for prog in a b; do\n  update-alternatives --install /usr/bin/$prog ${prog} /usr/bin/${prog}-im 9\ndone\n"
        )
        found, unknown = alternatives_of([deb(text)])
        assert found == [("/usr/bin/a", "a", "/usr/bin/a-im", 9), ("/usr/bin/b", "b", "/usr/bin/b-im", 9)]
        assert unknown == []

    def test_with_variables(self, deb: Make) -> None:
        text = (
            'ver=1.17\nprio="35"\n'
            "update-alternatives --install /usr/bin/a a /usr/bin/a-$ver $prio --slave /usr/bin/b b /usr/bin/b-${ver}\n"
        )
        assert alternatives_of([deb(text)]) == (
            [("/usr/bin/a", "a", "/usr/bin/a-1.17", 35), ("/usr/bin/b", "b", "/usr/bin/b-1.17", 35)],
            [],
        )

    @pytest.mark.parametrize(
        "what",
        [
            "/usr/bin/../a a /usr/bin/b 10",
            "/usr/bin/.wh.a a /usr/bin/b 10",
            "usr/bin/a a /usr/bin/b 10",
            "/usr/bin/a ../../a /usr/bin/b 10",
            "/usr/bin/a a b 10",
            "/usr/bin/a a /usr/bin/b " + "9" * 5000,
        ],
    )
    def test_invalid_links(self, deb: Make, what: str) -> None:
        assert alternatives_of([deb(f"update-alternatives --install {what}\n")]) == ([], ["thing"])

    def test_loop_over_other_than_literal_words(self, deb: Make) -> None:
        loop = "for prog in a\\q; do\n  update-alternatives --install /usr/bin/$prog $prog /usr/bin/b 9\ndone\n"
        assert alternatives_of([deb(loop)]) == ([], ["thing"])

    @pytest.mark.parametrize("assigned", ["p=1\np=2\n", "p=$(number)\n", "p=1$x\n", 'p="1 2"\n', ""])
    def test_unknown_values_of_variables(self, deb: Make, assigned: str) -> None:
        text = f"{assigned}update-alternatives --install /usr/bin/a a /usr/bin/b $p\n"
        assert alternatives_of([deb(text)]) == ([], ["thing"])

    def test_reports_calls_that_cannot_be_parsed(self, deb: Make) -> None:
        text = "update-alternatives --install $dir/x x $dir/y 1\n"
        assert alternatives_of([deb(text)]) == ([], ["thing"])
        assert alternatives_of([deb(text, name="procps")]) == ([], [])
