"""EC2's answers as XML: plain data in, the text that AWS clients parse out.

A mapping becomes nested elements, a sequence becomes ``<item>`` elements, a bool becomes ``true`` or ``false``.
"""

from __future__ import annotations

import uuid
import xml.etree.ElementTree as ET
from collections.abc import Mapping

from aiohttp import web

VERSION = "2016-11-15"
NAMESPACE = f"http://ec2.amazonaws.com/doc/{VERSION}/"


def answer(action: str, content: Mapping[str, object]) -> web.Response:
    """The answer to a call that was done."""
    root = ET.Element(f"{action}Response", xmlns=NAMESPACE)
    _fill(root, {"requestId": uuid.uuid4(), **content})
    return _response(root, 200)


def error(code: str, message: str, *, status: int) -> web.Response:
    """The answer to a call that was refused."""
    root = ET.Element("Response")
    _fill(root, {"Errors": {"Error": {"Code": code, "Message": message}}, "RequestID": uuid.uuid4()})
    return _response(root, status)


def _fill(element: ET.Element, content: object) -> None:
    if isinstance(content, Mapping):
        for name, value in content.items():
            _fill(ET.SubElement(element, name), value)
    elif isinstance(content, (list, tuple)):
        for value in content:
            _fill(ET.SubElement(element, "item"), value)
    else:
        element.text = str(content).lower() if isinstance(content, bool) else str(content)


def _response(root: ET.Element, status: int) -> web.Response:
    body = ET.tostring(root, encoding="UTF-8", xml_declaration=True)
    return web.Response(status=status, body=body, content_type="text/xml", charset="UTF-8")
