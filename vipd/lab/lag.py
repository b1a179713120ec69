"""Views that follow the truth late, as those of AWS do, but never out of order.

Timers alone would not promise the order: two of the same instant may fire either way round, and a lag that is
shortened while changes wait would let later ones overtake them.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

Change = Callable[[], None]


class Lagging:
    """Changes that take effect some time after they were made, on the event loop, first in first out."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[float, Change]] = deque()
        self._busy = False

    def put(self, change: Change, *, lag_s: float) -> None:
        """Call ``change`` after ``lag_s`` seconds and after all that were put before; at once without lag.

        With a lag it must be called on a running event loop (RuntimeError).
        """
        if lag_s <= 0 and not self._busy:
            self._busy = True
            self._make(change)
            return
        self._waiting.append((asyncio.get_running_loop().time() + max(lag_s, 0.0), change))
        self._next_in_line()

    def _next_in_line(self) -> None:
        if self._waiting and not self._busy:
            # Busy until the change has been made: what it may put itself comes behind it.
            self._busy = True
            due, change = self._waiting.popleft()
            asyncio.get_running_loop().call_at(due, self._make, change)

    def _make(self, change: Change) -> None:
        try:
            change()
        finally:
            self._busy = False
            self._next_in_line()
