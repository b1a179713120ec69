"""The typed settings of a command, from flags, environment and a YAML file, with errors that say what to do.

One table (``vipd.config.table``) describes every option; flags, variables, file keys and ``--help`` are all made
from it.  Nothing here touches a network or an interface.
"""

from vipd.config.model import (
    AddressMode,
    EniMode,
    FenceChoice,
    HostSettings,
    InitSettings,
    LogFormat,
    LogLevel,
    MemberSettings,
    PodInfo,
    SidecarSettings,
)
from vipd.config.settings import (
    Reloaded,
    from_flags,
    host_from_flags,
    load_host,
    load_init,
    load_sidecar,
    reload,
)
from vipd.config.values import Listen

__all__ = [
    "AddressMode",
    "EniMode",
    "FenceChoice",
    "HostSettings",
    "InitSettings",
    "Listen",
    "LogFormat",
    "LogLevel",
    "MemberSettings",
    "PodInfo",
    "Reloaded",
    "SidecarSettings",
    "from_flags",
    "host_from_flags",
    "load_host",
    "load_init",
    "load_sidecar",
    "reload",
]
