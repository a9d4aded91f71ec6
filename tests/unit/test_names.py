"""Interface names and MAC addresses."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.names import (
    INTERFACE_NAME,
    INTERFACE_NAME_MAX,
    INTERFACES_MAX,
    KERNEL_INTERFACES,
    NODE_NAME,
    NODES_MAX,
    free_interfaces,
    mac_address,
    port_name,
)


def test_a_port_is_named_after_its_peer() -> None:
    assert port_name("pc1", ()) == "pc1"
    assert port_name("pc1", {"pc1"}) == "pc1-2"
    assert port_name("pc1", {"pc1", "pc1-2"}) == "pc1-3"


def test_a_long_name_is_cut_and_told_apart() -> None:
    first, second = port_name("the-long-name-of-one", ()), port_name("the-long-name-of-two", ())
    assert first.startswith("the-long-n-") and second.startswith("the-long-n-")
    assert first != second and len(first) == INTERFACE_NAME_MAX


@pytest.mark.parametrize("name", sorted(KERNEL_INTERFACES))
def test_a_port_never_has_a_name_that_is_taken_by_the_system(name: str) -> None:
    assert port_name(name, ()) not in KERNEL_INTERFACES


@given(st.lists(st.from_regex(NODE_NAME, fullmatch=True), max_size=20))
def test_port_names_fit_and_are_unique(peers: list[str]) -> None:
    taken: set[str] = set()
    for peer in peers:
        name = port_name(peer, taken)
        assert INTERFACE_NAME.fullmatch(name) and name not in taken and name not in KERNEL_INTERFACES
        taken.add(name)


def test_free_interfaces_skip_what_is_taken_meanwhile() -> None:
    taken = {"eth1"}
    free = free_interfaces(taken)
    first = next(free)
    taken.add("eth2")
    assert [first, *itertools.islice(free, 2)] == ["eth0", "eth3", "eth4"]


def test_mac_addresses_are_readable() -> None:
    assert mac_address(1, 0) == "02:57:4c:00:01:00"
    assert mac_address(0x1234, 0x56) == "02:57:4c:12:34:56"


@given(st.sets(st.tuples(st.integers(0, NODES_MAX), st.integers(0, INTERFACES_MAX - 1)), max_size=50))
def test_mac_addresses_are_unicast_local_and_unique(places: set[tuple[int, int]]) -> None:
    macs = {mac_address(*place) for place in places}
    assert len(macs) == len(places)
    assert all(int(mac[:2], 16) & 3 == 2 and len(mac) == 17 for mac in macs)


@pytest.mark.parametrize(("node", "interface"), [(-1, 0), (0, -1), (NODES_MAX + 1, 0), (0, INTERFACES_MAX)])
def test_mac_addresses_have_limits(node: int, interface: int) -> None:
    with pytest.raises(ValueError, match="no MAC address"):
        mac_address(node, interface)
