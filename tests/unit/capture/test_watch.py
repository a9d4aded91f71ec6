"""What the kernel tells about interfaces and addresses, taken from its messages."""

from __future__ import annotations

import socket
import struct

from hypothesis import given
from hypothesis import strategies as st

from emulator.capture.watch import AddressSeen, LinkGone, LinkSeen, Watch, changes

NEWLINK, DELLINK, NEWADDR, NEWROUTE = 16, 17, 20, 24


def attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", len(value) + 4, kind) + value + bytes(-len(value) % 4)


def message(kind: int, body: bytes) -> bytes:
    return struct.pack("=IHHII", 16 + len(body), kind, 0, 1, 0) + body + bytes(-len(body) % 4)


def link(kind: int, index: int, name: str, family: int = socket.AF_UNSPEC) -> bytes:
    return message(kind, struct.pack("=BxHiII", family, 1, index, 0, 0) + attribute(3, name.encode() + b"\0"))


def address(text: str, scope: int = 0, *, local: bool = True) -> bytes:
    family = socket.AF_INET6 if ":" in text else socket.AF_INET
    octets = socket.inet_pton(family, text)
    return message(NEWADDR, struct.pack("=BBBBI", family, 24, 0, scope, 2) + attribute(2 if local else 1, octets))


def test_interfaces_and_addresses() -> None:
    octets = (
        link(NEWLINK, 7, "eth0") + address("10.0.0.1") + address("2001:db8::1", local=False) + link(DELLINK, 7, "eth0")
    )
    assert changes(octets) == [LinkSeen(7, "eth0"), AddressSeen("10.0.0.1"), AddressSeen("2001:db8::1"), LinkGone(7)]


def test_what_is_no_interface_or_only_the_hosts_own_is_passed_over() -> None:
    assert changes(message(NEWROUTE, bytes(12))) == []
    assert changes(address("127.0.0.1", scope=254)) == []
    assert changes(address("::1", scope=254)) == []
    assert changes(link(NEWLINK, 7, "")) == []


def test_a_port_that_leaves_its_bridge_is_still_there() -> None:
    assert changes(link(DELLINK, 7, "eth0", socket.AF_BRIDGE)) == []


def test_an_address_of_a_strange_length_is_passed_over() -> None:
    body = struct.pack("=BBBBI", socket.AF_INET, 24, 0, 0, 2) + attribute(2, b"\1\2\3")
    assert changes(message(NEWADDR, body)) == []


@given(st.binary(max_size=200))
def test_damaged_messages_raise_nothing(octets: bytes) -> None:
    changes(octets)
    changes(message(NEWLINK, octets) + message(NEWADDR, octets))


def test_the_kernel_answers() -> None:
    watch = Watch()
    try:
        names = {change.name for change in watch.ask() if isinstance(change, LinkSeen)}
        assert names == {name for _index, name in socket.if_nameindex()}
        assert [change for change in watch.read() if isinstance(change, LinkGone)] == []
    finally:
        watch.close()
