"""The typed settings of a command, from flags, environment and a YAML file, with errors that say what to do.

One table (``vipd.config.table``) describes every option; flags, variables, file keys and ``--help`` are all made
from it.  Nothing here touches a network or an interface.
"""

from vipd.config.model import EniMode, FenceChoice, InitSettings, LogFormat, LogLevel, PodInfo, SidecarSettings
from vipd.config.settings import Reloaded, from_flags, load_init, load_sidecar, reload
from vipd.config.values import Listen

__all__ = [
    "EniMode",
    "FenceChoice",
    "InitSettings",
    "Listen",
    "LogFormat",
    "LogLevel",
    "PodInfo",
    "Reloaded",
    "SidecarSettings",
    "from_flags",
    "load_init",
    "load_sidecar",
    "reload",
]
