"""What the commands that run until told to stop have in common: logging on, and every end an exit code."""

from __future__ import annotations

import logging
from collections.abc import Callable

from vipd.config import MemberSettings
from vipd.errors import VipdError

log = logging.getLogger("vipd")


def serve(settings: MemberSettings, run: Callable[[], int]) -> int:
    """Run with logging as told; the exit code."""
    from vipd.observe import logs

    with logs.started(settings.log_format, settings.log_level):
        for note in settings.notes():
            log.warning("poor setting: %s", note)
        try:
            return run()
        except VipdError as error:
            # In the form of all other lines, which a log collector reads; main() prints plainly.
            log.error("%s", error, extra=logs.fields(exit_code=error.exit_code))
            return error.exit_code
        except Exception:
            log.exception("vipd failed in a way it must not; please report this")
            return 1
