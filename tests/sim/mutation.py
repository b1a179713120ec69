"""A rule of the production core, broken on purpose: what the simulator must find.

A mutation names the rule, and what it puts in its place.  Most replace one function of ``vipd.core`` by one that
does everything but the rule.  They are for tests only, and are undone when the ``with`` block ends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

from .api import forget_parsed
from .schedule import Setting

Patches = list[tuple[Any, str, Any]]


@dataclass(frozen=True, slots=True)
class Mutation:
    """One broken rule."""

    name: str
    rule: str
    """What it breaks, in words."""
    patches: Callable[[], Patches]
    script: Setting | None = None
    """The schedule that finds it, where chance needs too long."""

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The rule is broken inside this block."""
        forget_parsed()
        with ExitStack() as stack:
            for place, name, stand_in in self.patches():
                stack.enter_context(patch.object(place, name, stand_in))
            try:
                yield
            finally:
                forget_parsed()


MUTATIONS: dict[str, Mutation] = {}


def mutation(rule: str, script: Setting | None = None) -> Callable[[Callable[[], Patches]], Callable[[], Patches]]:
    def register(patches: Callable[[], Patches]) -> Callable[[], Patches]:
        name = patches.__name__
        MUTATIONS[name] = Mutation(name, rule, patches, script)
        return patches

    return register
