"""Ubuntu: one #cloud-config document.  Files by write_files, commands by runcmd, in this order and once.

runcmd comes late in the boot (cloud-final), when the network is up.
"""

from __future__ import annotations

from typing import Any

from vipd.config.model_userdata import UserdataSettings
from vipd.userdata.contents import node_files
from vipd.userdata.joining import bootstrap_command
from vipd.userdata.nodefile import starting

HEADER = "#cloud-config\n# Written by vipd userdata.\n"


def ubuntu(settings: UserdataSettings) -> str:
    """The document."""
    files = node_files(settings)
    joining = () if settings.cluster is None else (bootstrap_command(settings.cluster),)
    document = {
        "write_files": [{"path": f.path, "permissions": f.mode, "content": f.content} for f in files],
        "runcmd": [list(command) for command in (*starting(files), *joining)],
    }
    return HEADER + _yaml(document)


def _yaml(document: dict[str, Any]) -> str:
    """YAML in which a file's lines stay lines, for whoever has to read it in a console."""
    import yaml

    class Dumper(yaml.SafeDumper):
        pass

    def text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)

    Dumper.add_representer(str, text)
    return str(yaml.dump(document, Dumper=Dumper, sort_keys=False, width=10**6))
