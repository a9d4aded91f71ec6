"""Packets taken apart into frames with named fields. The only module that imports scapy.

Fields are named as Wireshark's display filters are, and hold what those hold: numbers, flags as booleans, times as
seconds since 1970, addresses and names as text, payloads as octets. Names of our own begin with `wirelab.`. A layer
`malformed` (and `_ws.malformed`) means: a header, a message or what it announces does not fit in the frame.
"""

# ruff: noqa: E402

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

# It would make folders in the user's home and keep its lists of names there; nothing of ours stays on the machine.
_FOLDERS: Final = ("XDG_CONFIG_HOME", "XDG_CACHE_HOME")
_before = {name: os.environ.get(name) for name in _FOLDERS}
os.environ.update(dict.fromkeys(_FOLDERS, os.devnull))
try:
    import scapy.main  # noqa: F401 - where it looks for them
finally:
    for _name, _value in _before.items():
        if _value is None:
            del os.environ[_name]
        else:
            os.environ[_name] = _value
from scapy.config import conf

# Before the layers: they read the machine's routes when they are imported, and complain when there are none.
conf.route_autoload = False
conf.route6_autoload = False
logging.getLogger("scapy").setLevel(logging.CRITICAL)

from scapy.layers import dhcp, dns, inet, inet6, l2
from scapy.packet import Packet as Layer

from emulator.capture.frame import Frame, Interface, Value
from emulator.capture.pcapng import Packet
from emulator.capture.plain import plain
from emulator.capture.walk import Dissect, MalformedError, Walk

_HEADERS: Final[Mapping[str, type[Layer]]] = {
    kind.__name__: kind
    for kind in (
        l2.Ether,
        l2.Dot1Q,
        l2.LLC,
        l2.ARP,
        inet.IP,
        inet.ICMP,
        inet.TCP,
        inet.UDP,
        inet6.IPv6,
        inet6.IPv6ExtHdrHopByHop,
        inet6.IPv6ExtHdrRouting,
        inet6.IPv6ExtHdrFragment,
        inet6.IPv6ExtHdrDestOpt,
        inet6.ICMPv6DestUnreach,
        inet6.ICMPv6PacketTooBig,
        inet6.ICMPv6TimeExceeded,
        inet6.ICMPv6ParamProblem,
        inet6.ICMPv6EchoRequest,
        inet6.ICMPv6EchoReply,
        inet6.ICMPv6ND_RS,
        inet6.ICMPv6ND_RA,
        inet6.ICMPv6ND_NS,
        inet6.ICMPv6ND_NA,
        inet6.ICMPv6ND_Redirect,
        inet6.ICMPv6Unknown,
    )
}
"""Headers, which are also encoded again."""

_MESSAGES: Final[Mapping[str, type[Layer]]] = {"DNS": dns.DNS, "BOOTP": dhcp.BOOTP}
"""Messages of applications, which are payload to the headers. (A compressed DNS message has no one encoding.)"""


@dataclass(frozen=True)
class _Dissection:
    """What the octets of a frame say, apart from where and when they were seen."""

    fields: Mapping[str, tuple[Value, ...]]
    layers: tuple[str, ...]
    reencoded: bool | None


def decode(packets: Sequence[Packet], interfaces: Sequence[Interface], *, encode: bool = True) -> tuple[Frame, ...]:
    """Take `packets` apart; never fails on what they hold.

    A frame that was seen at many interfaces is taken apart once, and its field values are shared.

    `Frame.reencoded` is True when the values of all headers, put together again with nothing computed anew, are the
    octets that were captured (what the transport carries counts as octets); False also when a header is
    malformed; None for a link type that is not known.

    Args:
        packets: in the order of the capture file.
        interfaces: those that `Packet.interface` points to.
        encode: find out `Frame.reencoded`; without it that is None, and large captures are decoded some times faster.
    """
    dissect = _dissect if encode else plain(_dissect)
    known: dict[tuple[int, int, bytes], _Dissection] = {}
    frames = []
    for number, packet in enumerate(packets, 1):
        interface = interfaces[packet.interface]
        key = interface.link_type, packet.length, packet.data
        if (found := known.get(key)) is None:
            found = known[key] = _take_apart(dissect, interface.link_type, packet.data, packet.length)
        place: dict[str, tuple[Value, ...]] = {
            "frame.number": (number,),
            "frame.len": (packet.length,),
            "frame.cap_len": (len(packet.data),),
            "frame.interface_name": (interface.name,),
        }
        frames.append(
            Frame(
                number=number,
                time_ns=packet.time_ns,
                interface=interface.name,
                direction=packet.direction,
                data=packet.data,
                length=packet.length,
                fields={**place, **found.fields},
                layers=found.layers,
                reencoded=found.reencoded if encode else None,
            )
        )
    return tuple(frames)


def _take_apart(dissect: Dissect, link_type: int, data: bytes, length: int) -> _Dissection:
    walk = Walk(dissect, cut=len(data) < length)
    walk.start(link_type, data)
    fields = {name: tuple(values) for name, values in walk.fields.items()}
    return _Dissection(fields, tuple(walk.layers), walk.reencoded(data))


def _dissect(name: str, octets: bytes) -> tuple[Any, bytes]:
    """`octets` as the header or message `name`, and for a header what its values encode to.

    Raises:
        MalformedError: scapy could not.
    """
    header = _HEADERS.get(name)
    try:
        if header is None:
            return _MESSAGES[name](octets), b""
        # Not header(octets), which would go on to what it takes for the payload.
        layer = header()
        layer.do_dissect(octets)
        # Else the captured octets would be given back; with values for length and checksum, none is computed.
        layer.clear_cache()
        return layer, layer.self_build()
    except Exception as error:  # The boundary to scapy: what it raises on hostile octets is not its interface.
        raise MalformedError from error
