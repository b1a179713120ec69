"""``vipd host`` as a systemd unit: from a wheel in /opt/vipd, or from an image by containerd's ctr.

ctr, because every node with containerd has it; nerdctl is on AL2023's EKS AMIs alone.
"""

from __future__ import annotations

from vipd.config.model_userdata import (
    HostService,
    Image,
    KubeconfigFile,
    KubeconfigRole,
    NodeOs,
    UserdataSettings,
    Wheel,
)
from vipd.userdata.nodefile import NodeFile, program, unit
from vipd.userdata.parts import script

UNIT = "vipd-host.service"


def service_files(settings: UserdataSettings, service: HostService) -> tuple[NodeFile, ...]:
    """What installs, configures and runs it."""
    if isinstance(service.program, Wheel):
        installing = script({"WHEEL": service.program.text}, f"python-{_python(settings.os)}.sh", "install-wheel.sh")
        return (
            program("vipd-install", installing),
            program("vipd-host", _script(settings, service, {}, "run-wheel.sh")),
            unit(UNIT, "vipd-host-wheel.service"),
        )
    values = _image_values(service.program)
    return program("vipd-host", _script(settings, service, values, "run-image.sh")), unit(
        UNIT, "vipd-host-image.service"
    )


def host_arguments(settings: UserdataSettings, service: HostService) -> tuple[str, ...]:
    """What follows ``vipd``."""
    vips = [word for vip in settings.vips for word in ("--vip", str(vip))]
    return (
        "host",
        *vips,
        *("--lease", service.lease),
        *("--namespace", service.namespace),
        *("--address-mode", service.address_mode),
        *("--interface", settings.interface or "auto"),
        *(("--region", settings.region) if settings.region else ()),
    )


def _script(settings: UserdataSettings, service: HostService, values: dict[str, str], runs: str) -> str:
    known, names = _kubeconfig(settings, service.kubeconfig)
    return script({**known, **values}, "node-name.sh", *names, runs, arguments=host_arguments(settings, service))


def _kubeconfig(
    settings: UserdataSettings, kubeconfig: KubeconfigFile | KubeconfigRole
) -> tuple[dict[str, str], tuple[str, ...]]:
    """What is assigned, and the parts that use it."""
    if isinstance(kubeconfig, KubeconfigFile):
        return {"KUBECONFIG": kubeconfig.path}, ("kubeconfig-file.sh",)
    region = settings.region or ""
    known = {"CLUSTER": kubeconfig.cluster, "ROLE_ARN": kubeconfig.role_arn, "REGION": region}
    return known, ("imds.sh", "kubeconfig-role.sh")


def _image_values(image: Image) -> dict[str, str]:
    return {"IMAGE": image.reference, "ECR_REGION": image.ecr_region or ""}


def _python(node_os: NodeOs) -> str:
    return "ubuntu" if node_os is NodeOs.UBUNTU else "al2023"
