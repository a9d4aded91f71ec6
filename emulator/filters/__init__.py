"""The part of Wireshark's display filter language that labs use. Pure; imports no other room.

    tcp.flags.syn == 1 && !tcp.flags.ack == 1        comparisons, and, or, not
    ip.addr == 192.168.0.0/16                        an address is equal to a prefix when it lies within it
    tcp.port in {80, 443, 8000..8999}                a set of values and ranges
    udp.payload contains "example"                   octets or text within
    dns && ip.ttl < 64                               a protocol's or a field's name alone: it is present

As in Wireshark 4, a field may have several values (`ip.addr` has both addresses): a comparison holds when it holds for
any of them, except `!=`, which holds when no value is equal. A comparison with a field that a frame lacks is false. The
name of a field alone asks only whether the frame has it, whatever its value: a SYN is `tcp.flags.syn == 1`, while
`tcp.flags.syn` is every TCP segment.
"""

from __future__ import annotations

from functools import lru_cache

from emulator.filters.fields import KNOWN_FIELDS, KNOWN_PROTOCOLS, FieldType
from emulator.filters.parser import FilterError, parse_text
from emulator.filters.terms import Filter, Value

__all__ = ["KNOWN_FIELDS", "KNOWN_PROTOCOLS", "FieldType", "Filter", "FilterError", "Value", "parse"]


@lru_cache(maxsize=512)
def parse(text: str) -> Filter:
    """The filter that `text` says.

    Raises:
        FilterError: with the column of the first thing that is wrong.
    """
    return parse_text(text)
