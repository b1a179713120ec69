"""pyroute2 without what a VIP manager never uses.

``import pyroute2`` brings conntrack, ipset, NDB, IPDB, WireGuard and more: 64 modules, 6 MB and 0.1 s for each
process.  The submodules that vipd needs import none of them.  So the package's own ``__init__`` is put off until
somebody asks for one of its names; then it runs as ever, and everything is there.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from typing import Any


def put_off(name: str) -> None:
    """Have ``import name.submodule`` not run the package's ``__init__``; nothing to do where it has run already."""
    if name in sys.modules:
        return
    spec = importlib.util.find_spec(name)
    if spec is None or spec.loader is None:
        return  # whoever imports it gets the usual error
    package, loader = importlib.util.module_from_spec(spec), spec.loader

    def load(attribute: str) -> Any:
        if attribute.startswith("__"):
            raise AttributeError(f"module {name!r} has no attribute {attribute!r}")
        if importlib.util.find_spec(f"{name}.{attribute}") is not None:
            return importlib.import_module(f"{name}.{attribute}")
        del package.__getattr__
        loader.exec_module(package)
        return getattr(package, attribute)

    package.__getattr__ = load  # type: ignore[method-assign]
    sys.modules[name] = package
