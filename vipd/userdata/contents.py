"""Which files a node gets, whatever its distribution wraps them in."""

from __future__ import annotations

from vipd.config.model_userdata import NodeOption, UserdataSettings
from vipd.userdata.address import address_files
from vipd.userdata.mapping import mapping_files
from vipd.userdata.nodefile import NodeFile
from vipd.userdata.service import service_files


def node_files(settings: UserdataSettings) -> tuple[NodeFile, ...]:
    """The address where vipd does not put it itself, then what moves the mapping."""
    address = address_files(settings) if settings.bears_address else ()
    if settings.service is not None:
        return *address, *service_files(settings, settings.service)
    if settings.option is NodeOption.NO_CONTAINER:
        return *address, *mapping_files(settings)
    return address
