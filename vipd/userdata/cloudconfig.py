"""A plan as ``#cloud-config``, for Ubuntu."""

from __future__ import annotations

from typing import Any

from vipd.userdata.plan import Plan


def cloud_config(plan: Plan) -> str:
    """Files, then commands as lists of words, which no shell looks at."""
    import yaml

    files = [
        {"path": file.path, "permissions": "0755" if file.executable else "0644", "content": file.text}
        for file in plan.files
    ]
    # Not --now: what they wait for must not hold up the node that joins its cluster.
    commands = [["systemctl", "daemon-reload"], ["systemctl", "enable", *plan.units]]
    commands.append(["systemctl", "start", "--no-block", *plan.units])
    document: dict[str, Any] = {"write_files": files, "runcmd": [*commands, *map(list, plan.commands)]}
    return "#cloud-config\n# Written by vipd userdata.\n" + yaml.dump(
        document, Dumper=_dumper(yaml), sort_keys=False, width=10_000
    )


def _dumper(yaml: Any) -> Any:
    """Texts of several lines as they are, for people to read."""

    class Dumper(yaml.SafeDumper):  # type: ignore[misc]
        def represent_str(self, text: str) -> Any:
            return self.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)

    Dumper.add_representer(str, Dumper.represent_str)
    return Dumper
