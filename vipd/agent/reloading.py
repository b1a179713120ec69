"""SIGHUP and SIGUSR1, whatever a process does: the configuration is read again, and the state is logged.

What cannot change at once is compared with what is in force, not with what the file said last: as long as the file
says something else, each SIGHUP says that a restart is needed, and none does once the edit is undone.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from vipd.config import MemberSettings, reload, table
from vipd.config.option import Option
from vipd.errors import ConfigError
from vipd.observe.logs import fields, set_level

log = logging.getLogger("vipd")

LIVE: tuple[Option[Any], ...] = (
    table.PRIORITY,
    table.PREEMPT,
    table.LEASE_DURATION,
    table.RENEW_INTERVAL,
    table.GRACE,
    table.LOG_LEVEL,
)
"""What changes at once in an election; everything else needs a restart, and says so."""

LIVE_WITHOUT_ELECTION: tuple[Option[Any], ...] = (table.LOG_LEVEL,)


class Reloading:
    """The settings in force, as they were told."""

    def __init__(
        self,
        settings: MemberSettings,
        argv: Sequence[str],
        environ: Mapping[str, str],
        *,
        live: Sequence[Option[Any]] = LIVE_WITHOUT_ELECTION,
        require: Callable[[MemberSettings], None] = lambda settings: None,
    ) -> None:
        """``live``: what changes at once.  ``require``: raises ConfigError for settings that cannot be now."""
        self.told = settings
        self._argv, self._environ = argv, environ
        self._live = live
        self._require = require

    def again(self) -> bool:
        """Read everything again and tell what changed; False where the new configuration is not used."""
        try:
            settings, changed = reload(self.told, self._argv, self._environ)
            self._require(settings)
        except ConfigError as error:
            log.error("SIGHUP: the new configuration is not used, the old one stays: %s", error)
            return False
        live = {option.name for option in self._live}
        later = sorted(set(changed) - live)
        if later:
            log.warning("SIGHUP: these need a restart and stay as they were: %s", ", ".join(later))
        taken = {field: getattr(settings, field) for option in self._live for field in option.fields}
        self.told = replace(self.told, **taken)
        set_level(self.told.log_level)
        log.info("SIGHUP: configuration reloaded; changed: %s", ", ".join(sorted(live & set(changed))) or "nothing")
        return True


def on_signals(reload_: Callable[[], object], status: Callable[[], Mapping[str, object]]) -> None:
    """From now on SIGHUP reads the configuration again, and SIGUSR1 logs the status document."""
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGHUP, reload_)
    loop.add_signal_handler(signal.SIGUSR1, lambda: log.info("state on request", extra=fields(status=status())))


def not_yet() -> None:
    """Until then: their default is death, and there is nothing to reload or to tell."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGHUP, signal.SIGUSR1):
        loop.add_signal_handler(number, log.info, "%s: there is no election here yet, so nothing is done", number.name)
