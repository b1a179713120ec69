"""pyroute2 is loaded as far as it is needed, and wholly for whoever asks for more."""

from __future__ import annotations

import subprocess
import sys

import pytest


def fresh(code: str) -> str:
    """What a Python of its own prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_link_brings_no_more_of_pyroute2_than_it_needs():
    code = (
        "import sys, vipd.link.kernel, vipd.link.monitor\n"
        "print(*sorted({m.split('.')[1] for m in sys.modules if m.startswith('pyroute2.')}))"
    )
    assert set(fresh(code).split()).isdisjoint({"ndb", "conntrack", "ipset", "ipdb", "wiset"})


@pytest.mark.parametrize(
    "code",
    [
        "import vipd.link.kernel; from pyroute2 import NDB, IPRoute; print(IPRoute.__name__, NDB.__name__)",
        "import vipd.link.kernel; import pyroute2; print(pyroute2.IPRoute.__name__, pyroute2.NDB.__name__)",
        "from pyroute2 import NDB, IPRoute; import vipd.link.kernel; print(IPRoute.__name__, NDB.__name__)",
    ],
)
def test_the_rest_of_it_is_there_for_whoever_asks(code):
    assert fresh(code) == "IPRoute NDB"


def test_a_submodule_is_found_without_the_whole():
    code = "import sys, vipd.link; from pyroute2 import netns; print(netns.__name__, 'pyroute2.ndb' in sys.modules)"
    assert fresh(code) == "pyroute2.netns False"


def test_an_unknown_name_is_the_usual_error():
    code = "import vipd.link, pyroute2\ntry:\n pyroute2.nothing\nexcept AttributeError as e: print(e)"
    assert "nothing" in fresh(code)


def test_a_package_that_is_missing_is_told_by_whoever_imports_it():
    code = (
        "import vipd.link.lean as lean\nlean.put_off('no_such_package')\n"
        "try:\n import no_such_package\nexcept ModuleNotFoundError as e: print(e.name)"
    )
    assert fresh(code) == "no_such_package"
