"""Whether a package works though its maintainer scripts are not run (Debian policy 6).

Most scripts only tell caches and services of what dpkg has unpacked, and clean up after older versions. A script is
read for what it does when its package is installed for the first time: if any of that is not known to be needless in
an image, or to be done by `files.py` instead, the package is refused. That is a judgement by names of
commands, no proof.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from hatch_docker.debian.deb import Deb
from hatch_docker.errors import PackageError, join_hints


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Blocks of debhelper's: only what these do is known to be needless, or done by us (dh_installalternatives).
_NEEDLESS_BLOCKS = _words(
    """dh_apparmor dh_bugfiles dh_desktop dh_elpa dh_fontconfig dh_icons dh_installalternatives
    dh_installcatalogs dh_installdeb dh_installdebconf dh_installinfo dh_installinit dh_installinitramfs
    dh_installmenu dh_installmime dh_installsystemd dh_installsystemduser dh_installtex dh_installtmpfiles
    dh_installudev dh_installwm dh_installxfonts dh_installxmlcatalogs dh_link dh_makeshlibs dh_pypy
    dh_python2 dh_python3 dh_sgml dh_sphinxdoc dh_strip dh_systemd_enable dh_systemd_start dh_triggers
    dh_usrlocal dh_xul-ext"""
)
# The shell's own words, and commands that change nothing outside of their own output.
_IDLE = _words(
    """! ( ) . : [ [[ alias awk basename break case cat cd cmp command continue cut date db_beginblock db_capb
    db_endblock db_fget db_fset db_get db_go db_input db_metaget db_purge db_register db_reset db_set db_settitle
    db_stop db_subst db_title db_unregister db_version declare df diff dirname do done dpkg dpkg-architecture
    dpkg-query echo egrep elif else env esac eval exec exit export expr false fgrep fi find for function getcap getent
    getopts grep hash head hostname id if in invoke_rc ischroot let local ls md5sum mktemp pgrep pidof printf ps pwd
    read readlink readonly realpath return sed seq set sha1sum sha256sum sha512sum shift sleep sort source ss stat tail
    test then time tr trap true type typeset umask uname uniq unset until wait wc which while who whoami xargs { }"""
)
# What has no effect that a program in an image could miss; alternatives are made by us.
_NEEDLESS = _words(
    """add-shell apparmor_parser appstreamcli db-config deb-systemd-helper deb-systemd-invoke depmod
    dpkg-maintscript-helper dpkg-trigger fc-cache gtk-update-icon-cache gtk-update-icon-cache-3.0 initctl
    install-docs install-info install-sgmlcatalog invoke-rc.d kbuildsycoca4 killall ldconfig mandb mktexlsr py3clean
    py3compile pyclean pycompile remove-shell restorecon rm rmdir runit-helper service setcap start-stop-daemon
    sysctl systemctl systemd-hwdb systemd-tmpfiles telinit udevadm update-alternatives update-binfmts update-catalog
    update-desktop-database update-fonts-alias update-fonts-dir update-fonts-scale update-icon-caches
    update-initramfs update-menus update-mime update-mime-database update-rc.d update-xmlcatalog"""
)
# Packages that work without what their scripts would do: an image needs it not, or `files.py` does it.
_KNOWN = _words(
    """adduser base-files base-passwd bash ca-certificates comerr-dev coreutils dash debianutils dpkg fontconfig
    fontconfig-config fonts-urw-base35 ghostscript kmod libc-bin libc6 libc6-dev libgdk-pixbuf-2.0-0 libglib2.0-0
    libglib2.0-0t64 libhdf5-dev libpam-modules libpam-runtime libpam0g librsvg2-common libwrap0 login login.defs mawk
    netbase openssh-client openssl passwd perl-base pkgconf-bin poppler-data procps readline-common redis-tools
    sensible-utils shared-mime-info sudo tzdata ucf unixodbc-common util-linux x11-common xfonts-utils xkb-data"""
)
_KNOWN_VERSIONS = re.compile(
    r"(?:lib)?python3(?:\.\d+)?(?:-minimal)?|postgresql-client-\d+|libopenblas(?:64)?-(?:openmp|pthread|serial)-dev"
)
# What may be asked for in the place of a package that does not work without its script.
_INSTEAD = {"locales": "locales-all, which has all of them made", "vim-runtime": "vim-tiny"}
# What only makes room for what else a script does says little of why it is needed.
_PREPARING = frozenset(f"runs {name}" for name in _words("chmod chown chroot cp install ln mkdir mv touch"))

_BLOCK = re.compile(
    r"^[ \t]*# Automatically added by (dh\w[\w-]*)[^\n]*\n(.*?)^[ \t]*# End automatically added section[^\n]*$",
    re.MULTILINE | re.DOTALL,
)
_HEREDOC = re.compile(r"<<-?\s*[\\'\"]?(\w+)['\"]?([^\n]*\n).*?^[ \t]*\1[ \t]*$", re.MULTILINE | re.DOTALL)
_INTERPRETER = re.compile(rb"#!\s*/bin/(?:ba|da)?sh\b")
_FUNCTION = re.compile(r"^[ \t]*(?:function[ \t]+)?([A-Za-z_][\w-]*)[ \t]*\(\)", re.MULTILINE)
# Not a first installation: an older version is there, or the script is called by another name of what happens.
_OTHER_CASE = re.compile(
    r"compare-versions|=\s*['\"]?(?:upgrade|remove|purge|deconfigure|triggered|reconfigure|abort-[a-z-]+)\b"
    r"|-n\s+['\"]?\$\{?2|x\$\{?2\}?['\"]?\s*!="
)
_ALWAYS = re.compile(r"\|\||-z\s+['\"]?\$\{?2|-o\s|!\s*dpkg")
_LABEL = re.compile(r"^\(?\s*([A-Za-z|*\"' $@_-]+?)\s*\)(?:\s|$)(.*)")
_FIRST = frozenset(("configure", "install", "*"))
_SEPARATORS = re.compile(r"&&|\|\||;|\||\$\(|`|&(?!\d|>)")
_QUOTED = re.compile(r"'[^']*'|\"(?:\\.|[^\"\\$`])*\"")
_REDIRECTED = re.compile(r"(?<![0-9&<-])[12]?>>?\s*(?!\s*&)(\S+)")
_NOWHERE = re.compile(r"['\"]?(?:/dev/(?:null|stderr|stdout|tty)\b|&\d)")
_QUESTION = re.compile(r"\b(?:dpkg-statoverride|dpkg-divert|update-alternatives)\s+--(?:list\w*|query|truename)\b")
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*\+?=\S*\s*")
_WORDS = _words("if then else elif do while until ! { ( time command exec eval env")
_COMMAND = re.compile(r"(?:/(?:usr/)?s?bin/)?([a-zA-Z\[:.][\w.+-]*|\[)$")
_ALTERNATIVE = re.compile(r"update-alternatives\b[^\n;&|]*?--install\s+(\S+)\s+(\S+)\s+(\S+)\s+(\S+)([^\n;&|]*)")
_ASSIGNED = re.compile(r"^[ \t]*([A-Za-z_]\w*)=(?:\"([^\"\n]*)\"|([^\s;]*))", re.MULTILINE)
_PLAIN = re.compile(r"[\w./+:-]+")
_PLAIN_WORDS = re.compile(r"[^\n$`*\\]*")
_MOST_WORDS = 100
# The longest in Debian have a third of that. What a longer one does takes time to read by the square of its length.
_LONGEST = 1 << 16
_LOOP = re.compile(r"^[ \t]*for (\w+) in ([^;\n]+);?\s*do\b(.*?)^[ \t]*done\b", re.MULTILINE | re.DOTALL)
_NUMBER = re.compile(r"-?[0-9]{1,9}")
_WORD = r"(?!\.)[\w.+:@,~-]+"
_LINK = re.compile(rf"(?:/{_WORD})+ {_WORD} (?:/{_WORD})+")
_SLAVE = re.compile(r"--slave\s+(\S+)\s+(\S+)\s+(\S+)")


def check_scripts(debs: Iterable[Deb]) -> None:
    """Raise PackageError where a package cannot do without its scripts, with the reason; all such packages at once."""
    reasons = [(deb.control["Package"], reason) for deb in debs if (reason := why_needed(deb))]
    if reasons:
        lines = [f"{name} does not work without its script: {reason}" for name, reason in reasons]
        hints = [f"instead of {name}, take {_INSTEAD[name]}" for name, _ in reasons if name in _INSTEAD]
        raise PackageError("\n  ".join(lines), hint=join_hints(*hints))


def why_needed(deb: Deb) -> str:
    """What a package's scripts do that an image would miss; empty where that is nothing."""
    name = deb.control["Package"]
    if name in _KNOWN or _KNOWN_VERSIONS.fullmatch(name):
        return ""
    for script in ("preinst", "postinst"):
        if script in deb.scripts and (what := _effect(deb.scripts[script])):
            return f"its {script} {what}"
    return ""


def alternatives(debs: Iterable[Deb]) -> tuple[list[tuple[str, str, str, int]], list[str]]:
    """What packages would tell update-alternatives: link, name, path, priority; slaves as if they were on their own.

    And the names of the packages that tell it in ways that are not understood, unless they are known to do without.
    """
    found: list[tuple[str, str, str, int]] = []
    unknown: list[str] = []
    for deb in debs:
        package = deb.control["Package"]
        text = _filled(_LOOP.sub(_unrolled, _joined(deb.scripts.get("postinst", b"")[:_LONGEST])))
        for link, name, path, priority, rest in _ALTERNATIVE.findall(text):
            for each in ((link, name, path), *_SLAVE.findall(rest)):
                if _NUMBER.fullmatch(priority) and _LINK.fullmatch(" ".join(each)):
                    found.append((*each, int(priority)))
                elif package not in unknown and package not in _KNOWN:
                    unknown.append(package)
    return found, unknown


def _unrolled(loop: re.Match[str]) -> str:
    """The body of a loop over words, once for each."""
    name, words, body = loop.groups()
    if not _PLAIN_WORDS.fullmatch(words) or len(words.split()) > _MOST_WORDS:
        return loop[0]
    use = re.compile(rf"\$(?:{name}\b|\{{{name}\}})")
    return "".join(use.sub(word, body) for word in words.split())


def _filled(script: str) -> str:
    """The script with its variables replaced by what is in them, where that is one word once and for all."""
    assigned = [(name, quoted or bare) for name, quoted, bare in _ASSIGNED.findall(script)]
    names = [name for name, _ in assigned]
    for name, value in assigned:
        if names.count(name) == 1 and _PLAIN.fullmatch(value):
            script = re.sub(rf"\$(?:{name}\b|\{{{name}\}})", value, script)
    return script


def _joined(script: bytes) -> str:
    """The script with its continued lines in one."""
    return re.sub(r"\\\n\s*", " ", script.decode("utf-8", "replace"))


def _effect(script: bytes) -> str:
    """The most telling thing that a script does which is not known to be needless, or empty."""
    if not _INTERPRETER.match(script):
        return "is not a shell script"
    if len(script) > _LONGEST:
        return "is too long to be judged"
    text = _BLOCK.sub(lambda block: "" if block[1] in _NEEDLESS_BLOCKS else block[2], _joined(script))
    text = _HEREDOC.sub(lambda heredoc: heredoc[2], text)
    known = _IDLE | _NEEDLESS | frozenset(_FUNCTION.findall(text))
    found = [what for line in _first_time(text.splitlines()) if (what := _line_effect(line, known))]
    return next((what for what in found if what not in _PREPARING), found[0] if found else "")


def _line_effect(line: str, known: frozenset[str]) -> str:
    # What only keeps usrmerge safe in an upgrade (DEP 17).
    if ".usr-is-merged" in line:
        return ""
    bare = _QUESTION.sub("true", _QUOTED.sub("''", line))
    for target in _REDIRECTED.findall(bare):
        if not _NOWHERE.match(target):
            return f"writes to {target}"
    for part in _SEPARATORS.split(bare):
        words = _ASSIGNMENT.sub("", part.strip()) if _ASSIGNMENT.match(part.strip()) else part.strip()
        command = next((word for word in words.split() if word not in _WORDS), "")
        found = _COMMAND.match(command)
        if found and found[1] not in known:
            return f"runs {found[1]}"
    return ""


def _first_time(lines: Sequence[str]) -> Iterator[str]:
    """The lines that may be run when the package is installed where no version of it was."""
    # What each `if` or `case` around a line says of it: whether it is run.
    around: list[tuple[str, bool]] = []
    for whole in lines:
        line = whole.strip()
        if not line or line.startswith("#"):
            continue
        if line.startswith("esac") or re.match(r"fi\b", line):
            around = around[:-1]
            continue
        if around and around[-1][0] == "case" and (label := _LABEL.match(line)):
            around[-1] = ("case", not _FIRST.isdisjoint(re.split(r"[|\s\"']+", label[1])) or not _is_call(label[1]))
            line = label[2]
        line = _opened(line, around)
        if line and all(run for _, run in around):
            yield line
        if line.endswith(";;") and around and around[-1][0] == "case":
            around[-1] = ("case", True)


_CALLS = re.compile(r"upgrade|remove|purge|deconfigure|triggered|failed-upgrade|disappear|abort-[a-z-]+")


def _is_call(label: str) -> bool:
    """Whether a label of a `case` names how a script is called, and none of those names means the first time."""
    return any(_CALLS.fullmatch(word) for word in re.split(r"[|\s\"']+", label))


def _opened(line: str, around: list[tuple[str, bool]]) -> str:
    """Take note of an `if`, `elif`, `else` or `case` that begins on the line; give what is left to look at."""
    if re.match(r"case\b", line) and "esac" not in line:
        around.append(("case", True))
        return ""
    if re.match(r"if\b", line):
        if not re.search(r";\s*fi\b", line):
            around.append(("if", not _is_other(line)))
            return line if around[-1][1] else ""
        return "" if _is_other(line) else line
    if re.match(r"elif\b", line) and around:
        around[-1] = ("if", not _is_other(line))
    elif re.match(r"else\b", line) and around:
        around[-1] = ("if", True)
    return line


def _is_other(condition: str) -> bool:
    return bool(_OTHER_CASE.search(condition)) and not _ALWAYS.search(condition)
