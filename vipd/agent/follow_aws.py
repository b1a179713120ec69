"""AWS for following: nothing is fatal here, because a pod whose IMDS or credentials are late is to be served later.

``connect_aws`` is its strict counterpart for the election, which must not begin with half of what it needs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING

from vipd.aws.discovery import find_region
from vipd.aws.ec2 import Ec2
from vipd.aws.imds import Imds
from vipd.aws.mapping import DescribeMapping, ImdsMapping
from vipd.aws.mover import Ec2Mover
from vipd.core.ports import MappingReader
from vipd.errors import VipdError

if TYPE_CHECKING:
    from vipd.agent.aws import AwsSide


class FollowAws:
    """IMDS at once, EC2 when it is first needed or ``warm`` was called."""

    def __init__(
        self, *, region: str | None, environ: Mapping[str, str], shared: AwsSide | None = None, blind: bool = False
    ) -> None:
        """``shared``: what the election of this process uses.

        ``blind``: where IMDS may stay silent, because the operator told the ENIs: then EC2 is asked in its place.
        """
        self.imds = shared.imds if shared else Imds()
        self._region, self._environ = region, environ
        self._blind = blind
        self._mover: Ec2Mover | None = shared.mover if shared else None
        self._shared = shared is not None
        self._ec2: Ec2 | None = None
        self._lock = asyncio.Lock()
        self._describing: DescribeMapping | None = None
        self._imds_mapping = ImdsMapping(self.imds)

    async def mover(self) -> Ec2Mover:
        """Who calls EC2.  Raises AwsError (no region, no credentials), and tries anew the next time."""
        async with self._lock:
            if self._mover is None:
                ec2 = Ec2(region=await find_region(self._region, self._environ, self.imds))
                mover = Ec2Mover(ec2)
                await mover.warm()
                self._ec2, self._mover = ec2, mover
            return self._mover

    async def reader(self) -> MappingReader:
        """Who tells where addresses are mapped: IMDS; EC2 where IMDS is blocked.  Raises AwsError."""
        if not self._blind or await self.imds.ping():
            return self._imds_mapping
        await self.mover()
        if self._describing is None and self._ec2 is not None:
            self._describing = DescribeMapping(self._ec2)
        return self._describing or self._imds_mapping

    async def warm(self) -> str:
        """Prepare EC2 ahead of need, and keep temporary credentials fresh; why it failed, or nothing."""
        try:
            await (await self.mover()).warm()
        except VipdError as error:
            return str(error)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is no reason to end an election beside
            return f"AWS: cannot prepare calls to EC2: {type(error).__name__}: {error}"
        return ""

    async def close(self) -> None:
        """Give back connections and threads."""
        if not self._shared:
            if self._mover is not None:
                await self._mover.close()
            await self.imds.close()
