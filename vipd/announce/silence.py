"""An announcer that announces nothing: in a VPC the mapping delivers, and no neighbour has to be told."""

from __future__ import annotations

from collections.abc import Sequence

from vipd.core.model import LinkState, Vip


class Silence:
    """The ``Announcer`` of ``--no-announce``."""

    async def warm(self, vips: Sequence[Vip], links: Sequence[LinkState]) -> None:
        """Nothing to prepare."""

    def announce(self, vip: Vip, link: LinkState) -> None:
        """Nothing is sent."""

    def close(self) -> None:
        """Nothing is open."""
