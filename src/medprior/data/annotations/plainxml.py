"""XML that stands beside scans, read without what makes XML harmful."""

from __future__ import annotations

import xml.etree.ElementTree as ET  # guarded: see _Plain

from medprior.errors import DataError

MOST_XML = 64 << 20


class _Plain(ET.TreeBuilder):
    """Builds no tree with declarations: entities are how XML reads other files or grows without bound."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise DataError("the XML declares a document type, which annotations do not need and may be harmful")


def parse_xml(data: bytes, where: str) -> ET.Element:
    """The root of an XML document.

    Args:
        where: its name for messages.

    Raises:
        DataError: it is no well-formed XML, or declares a document type.
    """
    try:
        return ET.fromstring(data, ET.XMLParser(target=_Plain()))
    except DataError as error:
        raise DataError(error.what, where=where) from None
    except (ET.ParseError, ValueError, LookupError, RecursionError) as error:
        raise DataError(f"the file is no well-formed XML ({error})", where=where) from error
