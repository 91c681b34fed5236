"""`[tool.hatch.build.targets.docker]` and `HATCH_DOCKER_*`: read once, all mistakes at once, into frozen values.

Pure: it takes the table and the environment as values and looks nothing up.
"""

from hatch_docker.config.checks import as_mistake, check_names, check_push, default_script, expand_tags
from hatch_docker.config.keys import Mistakes, parse, refuse
from hatch_docker.config.model import ALL, PRUNED, BaseSpec, Config, ExtraFiles, Settings
from hatch_docker.config.times import created_time
from hatch_docker.config.values import gather

__all__ = [
    "ALL",
    "PRUNED",
    "BaseSpec",
    "Config",
    "ExtraFiles",
    "Mistakes",
    "Settings",
    "as_mistake",
    "check_names",
    "check_push",
    "created_time",
    "default_script",
    "expand_tags",
    "gather",
    "parse",
    "refuse",
]
