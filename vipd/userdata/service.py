"""vipd itself on the node, without a pod: a systemd unit that runs it from a wheel or from an image."""

from __future__ import annotations

import shlex
from pathlib import PurePosixPath

from vipd.config.model import UserdataSettings
from vipd.userdata.plan import SBIN, UNITS, File, Plan

NAME = "vipd-nodeport"
SCRIPT, INSTALL = f"{SBIN}/{NAME}", f"{SBIN}/{NAME}-install"
VENV = "/opt/vipd"

RBAC = """\
# The node's own credentials (group system:nodes) may touch Leases in kube-node-lease alone. Bind a Role in the Lease's
# namespace to that group (leases of this name: get, watch, update, patch; leases: create; events: create), as in
# vipd's examples/nodeport/rbac.yaml; or have vipd userdata name another kubeconfig (--kubeconfig).
"""


def plan(settings: UserdataSettings) -> Plan:
    """The unit, and what it runs."""
    runs = _wheel(settings) if settings.wheel else _image(settings)
    install = File(INSTALL, _install(settings.wheel), executable=True) if settings.wheel else None
    files = (File(SCRIPT, runs, executable=True), File(f"{UNITS}/{NAME}.service", _unit(installs=install is not None)))
    return Plan((*files, install) if install else files, (f"{NAME}.service",))


def command(settings: UserdataSettings) -> str:
    """``vipd host`` and its flags, quoted for a shell."""
    words = ["host", "--lease", settings.lease, "--namespace", settings.namespace]
    words += [word for vip in settings.vips for word in ("--vip", f"{vip.address}/{vip.prefixlen}")]
    words += ["--address-mode", settings.address_mode.value, "--interface", settings.interface]
    return shlex.join(words)


def _wheel(settings: UserdataSettings) -> str:
    return f"""\
#!/bin/sh
{RBAC}set -eu
export KUBECONFIG={shlex.quote(settings.kubeconfig)}
exec {VENV}/bin/vipd {command(settings)}
"""


def _install(wheel: str) -> str:
    """Idempotent: the unit runs it at each start, so that a network that was not there yet is no end."""
    return f"""\
#!/bin/sh
# Installs vipd into {VENV}; does nothing where this very one is there.
set -eu
wanted={shlex.quote(wheel)}
[ "$(cat {VENV}/.wanted 2>/dev/null)" = "$wanted" ] && exit 0
if command -v dnf >/dev/null; then
  dnf install -y python3.11
  python=python3.11
else
  apt-get update
  apt-get install -y python3-venv
  python=python3
fi
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
  echo "vipd needs Python 3.11 or newer" >&2
  exit 1
fi
rm -rf {VENV}
"$python" -m venv {VENV}
{VENV}/bin/pip install --disable-pip-version-check "$wanted"
printf '%s' "$wanted" > {VENV}/.wanted
"""


def _image(settings: UserdataSettings) -> str:
    folder = str(PurePosixPath(settings.kubeconfig).parent)
    mount = shlex.quote(f"type=bind,src={folder},dst={folder},options=rbind:ro")
    return f"""\
#!/bin/sh
{RBAC}set -eu
image={shlex.quote(settings.image)}
if [ -z "$(ctr --namespace vipd images ls -q "name==$image")" ]; then
  set --
  case $image in
  *.dkr.ecr.*.amazonaws.com*)
    region=${{image#*.dkr.ecr.}}
    password=$(aws ecr get-login-password --region "${{region%%.*}}")
    set -- --user "AWS:$password"
    ;;
  esac
  ctr --namespace vipd images pull "$@" "$image"
fi
# One that a crash left behind keeps the name.
if ctr --namespace vipd containers info {NAME} >/dev/null 2>&1; then
  ctr --namespace vipd tasks delete --force {NAME} || echo "no task was left" >&2
  ctr --namespace vipd containers delete {NAME}
fi
exec ctr --namespace vipd run --rm --net-host --cap-add CAP_NET_ADMIN --cap-add CAP_NET_RAW \\
  --env KUBECONFIG={shlex.quote(settings.kubeconfig)} \\
  --mount {mount} \\
  "$image" {NAME} vipd {command(settings)}
"""


def _unit(*, installs: bool) -> str:
    before = f"ExecStartPre={INSTALL}\n" if installs else ""
    return f"""\
[Unit]
Description=vipd: the owner of a NodePort VIP
After=network-online.target kubelet.service
Wants=network-online.target
StartLimitIntervalSec=0

[Service]
{before}ExecStart={SCRIPT}
Restart=always
RestartSec=2
# vipd hands over first, which may take 14 s.
TimeoutStopSec=30
TimeoutStartSec=600

[Install]
WantedBy=multi-user.target
"""
