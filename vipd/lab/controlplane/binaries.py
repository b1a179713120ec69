"""Where kube-apiserver and etcd are: nothing here builds or fetches them, ``make envtest`` does."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from vipd.errors import VipdError

VARIABLE = "KUBEBUILDER_ASSETS"
"""The folder with the programs, as controller-runtime's envtest names it."""


@dataclass(frozen=True, slots=True)
class Binaries:
    """The two programs of a control plane."""

    kube_apiserver: Path
    etcd: Path


def find(environ: Mapping[str, str] = os.environ) -> Binaries:
    """The programs in KUBEBUILDER_ASSETS, else those that ``make envtest`` built.  Raises VipdError."""
    named = environ.get(VARIABLE)
    # They are started in another folder than the one that a relative path means.
    folder = (Path(named) if named else _cache(environ)).absolute()
    found = Binaries(folder / "kube-apiserver", folder / "etcd")
    missing = [path.name for path in (found.kube_apiserver, found.etcd) if not os.access(path, os.X_OK)]
    if missing:
        where = f"{VARIABLE}={named}" if named else str(folder)
        raise VipdError(f"there is no {' and no '.join(missing)} in {where}; `make envtest` provides them")
    return found


def _cache(environ: Mapping[str, str]) -> Path:
    base = environ.get("XDG_CACHE_HOME") or str(Path(environ.get("HOME") or "/root") / ".cache")
    return Path(base) / "vipd" / "envtest"
