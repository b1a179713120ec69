"""A plan as a shell script, which cloud-init runs as root at the first boot (text/x-shellscript)."""

from __future__ import annotations

import shlex

from vipd.userdata.plan import File, Plan

END = "VIPD_END_OF_FILE"


def script(plan: Plan) -> str:
    """bash: files by quoted here-documents, in which nothing is expanded."""
    parts = ["#!/bin/bash\n# Written by vipd userdata.\nset -euo pipefail\n"]
    parts += [_file(file) for file in plan.files]
    if plan.units:
        units = shlex.join(plan.units)
        # Not --now: what they wait for must not hold up the node that joins its cluster.
        parts.append(f"systemctl daemon-reload\nsystemctl enable {units}\nsystemctl start --no-block {units}\n")
    parts += [shlex.join(command) + "\n" for command in plan.commands]
    return "".join(parts)


def _file(file: File) -> str:
    if END in file.text:
        raise ValueError(f"{file.path} has the line that ends it")
    path, mode = shlex.quote(file.path), "0755" if file.executable else "0644"
    return f"cat > {path} <<'{END}'\n{file.text}{END}\nchmod {mode} {path}\n"
