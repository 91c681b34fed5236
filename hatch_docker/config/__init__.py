"""Parse a project's table, `HATCH_DOCKER_*` and options into frozen values; report all mistakes at once.

The table and the environment are arguments: no I/O.
"""

from hatch_docker.config.base import reference
from hatch_docker.config.checks import (
    as_mistake,
    check_annotations,
    check_names,
    check_outputs,
    check_push,
    default_script,
    expand_tags,
)
from hatch_docker.config.compiling import disk_size
from hatch_docker.config.keys import HATCHLING, Mistakes, Option, check_options, parse, refuse, set_option
from hatch_docker.config.model import (
    ALL,
    EVERY,
    HATCH_FILE_TABLE,
    HATCH_TABLE,
    LEFTOVERS,
    PRUNED,
    SUITE,
    TABLE,
    BaseOptions,
    BaseSpec,
    Caching,
    Compiling,
    Config,
    ExtraFiles,
    Naming,
    OSPackages,
    Output,
    Packages,
    Runtime,
    Settings,
    variable,
)
from hatch_docker.config.times import created_time
from hatch_docker.config.values import fail, gather

__all__ = [
    "ALL",
    "EVERY",
    "HATCHLING",
    "HATCH_FILE_TABLE",
    "HATCH_TABLE",
    "LEFTOVERS",
    "PRUNED",
    "SUITE",
    "TABLE",
    "BaseOptions",
    "BaseSpec",
    "Caching",
    "Compiling",
    "Config",
    "ExtraFiles",
    "Mistakes",
    "Naming",
    "OSPackages",
    "Option",
    "Output",
    "Packages",
    "Runtime",
    "Settings",
    "as_mistake",
    "check_annotations",
    "check_names",
    "check_options",
    "check_outputs",
    "check_push",
    "created_time",
    "default_script",
    "disk_size",
    "expand_tags",
    "fail",
    "gather",
    "parse",
    "reference",
    "refuse",
    "set_option",
    "variable",
]
