"""The namespace that a person means who names none: as kubectl takes it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from vipd.errors import KubeError
from vipd.kube.connect import SERVICE_ACCOUNT, kubeconfig_source, own_namespace, uses_service_account

DEFAULT = "default"


def default_namespace(
    *,
    kubeconfig: str | None = None,
    context: str | None = None,
    environ: Mapping[str, str] = os.environ,
    service_account: Path = SERVICE_ACCOUNT,
) -> str:
    """The pod's own, or that of the kubeconfig's context, or ``default``.

    To be called after ``connect`` with the same arguments, which tells what is wrong with a kubeconfig.
    Raises KubeError where there is no such context.
    """
    if uses_service_account(kubeconfig, context, environ):
        return own_namespace(service_account=service_account) or DEFAULT
    from kubernetes.aio.config import ConfigException
    from kubernetes.aio.config.kube_config import list_kube_config_contexts

    source = kubeconfig_source(kubeconfig, environ)
    try:
        contexts, current = list_kube_config_contexts(source)
    except ConfigException as error:
        raise KubeError(f"The kubeconfig {source} cannot be used: {' '.join(str(error).split())}") from error
    chosen = next((c for c in contexts if c.get("name") == context), current) if context else current
    namespace = (chosen.get("context") or {}).get("namespace")
    return namespace if isinstance(namespace, str) and namespace else DEFAULT
