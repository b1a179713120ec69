"""What the actions of ``vipd lab`` are told alike, and what cannot be, before a lab is built."""

from __future__ import annotations

from pathlib import Path

from vipd.config.check import MIN_FENCE_LEASE_S
from vipd.config.option import wrong
from vipd.errors import ConfigError
from vipd.lab.setting import Setting


def require(setting: Setting, *, duration_s: float | None, fence: str | None) -> None:
    """Raises ConfigError where vipd would not start in such a lab with these flags."""
    why = why_not(setting, duration_s=duration_s, fence=fence)
    if why:
        raise ConfigError(why)


def why_not(setting: Setting, *, duration_s: float | None, fence: str | None) -> str:
    """Why vipd would not start in such a lab; empty where it would.  None: the flag was not given."""
    if setting.targets:
        # Nothing is elected there, so vipd is told neither.
        return ""
    if fence == "eni" and not setting.vpc:
        return "--fence eni: there are no ENIs on a plain L2 segment; allowed is lease"
    if fence == "lease" and setting.static:
        return (
            "--fence lease: every node bears the address there, and only the mapping to an ENI tells them apart; "
            "allowed is eni"
        )
    by_lease = fence == "lease" or not setting.vpc
    if by_lease and duration_s is not None and duration_s < MIN_FENCE_LEASE_S:
        return f"--lease-duration {duration_s:g}: fence lease needs --lease-duration {MIN_FENCE_LEASE_S} or more"
    return ""


def require_writable(flag: str, path: Path) -> None:
    """Make the folder of an output file, and open it once.

    Raises ConfigError where it cannot be written: that is not to be found out when everything has been played.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Who reads a pipe would take this for the end.
        if not path.is_fifo():
            path.open("a").close()
    except OSError as error:
        # mkdir says that of a folder that is none.
        why = "Not a directory" if isinstance(error, FileExistsError) else error.strerror
        raise wrong(f"flag {flag}", str(path), f"cannot be written: {why}", "a file that can be made there") from error
