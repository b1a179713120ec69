"""Amazon Linux 2023 and 2: MIME multi-part with a shell script, and what joins the cluster."""

from __future__ import annotations

import shlex

from vipd.config.model_userdata import Cluster, UserdataSettings
from vipd.userdata import mime
from vipd.userdata.contents import node_files
from vipd.userdata.install import install_script
from vipd.userdata.joining import bootstrap_command, node_config
from vipd.userdata.parts import HEADER


def al2023(settings: UserdataSettings) -> str:
    """nodeadm reads the NodeConfig before cloud-init runs the script, and starts the kubelet after it."""
    config = () if settings.cluster is None else (mime.Part(mime.NODE_CONFIG, node_config(settings.cluster)),)
    return mime.multipart([*config, _installing(settings)])


def al2(settings: UserdataSettings) -> str:
    """cloud-init runs the parts in their order: the address is there before the kubelet."""
    joining = () if settings.cluster is None else (mime.Part(mime.SHELL, _bootstrap(settings.cluster)),)
    return mime.multipart([_installing(settings), *joining])


def _installing(settings: UserdataSettings) -> mime.Part:
    return mime.Part(mime.SHELL, install_script(node_files(settings)))


def _bootstrap(cluster: Cluster) -> str:
    return HEADER + shlex.join(bootstrap_command(cluster)) + "\n"
