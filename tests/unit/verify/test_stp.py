"""The spanning tree of three switches in a ring."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from emulator.lab.resolved import Interface, Link
from emulator.verify.stp import identifier

CABLES = (("s1:s2", "s2:s1"), ("s2:s3", "s3:s2"), ("s3:s1", "s1:s3"))
MAC = {"s1": "9a:a5:06:21:fd:de", "s2": "42:5e:dc:57:cc:2c", "s3": "6a:68:03:77:88:58"}
IDENTIFIER = {"s1": "1000.9a:a5:6:21:fd:de", "s2": "8000.42:5e:dc:57:cc:2c", "s3": "8000.6a:68:3:77:88:58"}
"""As ip(8) prints them: octets without leading zeros."""
SPEAKERS = (("s1:s2", "s2:s1"), ("s2:s3", "s3:s2"), ("s1:s3", "s3:s1"))
"""On each cable who speaks and who listens."""
TREE = {"switches": ["s1", "s2", "s3"]}


def test_identifiers() -> None:
    assert identifier("8000.42:5e:dc:57:cc:2c") == 0x8000425EDC57CC2C
    assert identifier("1000.9a:a5:6:21:fd:de") < identifier("8000.0:0:0:0:0:1")
    for wrong in ("8000", "8000.1:2:3", "8000.1:2:3:4:5:100", "x.0:0:0:0:0:0"):
        with pytest.raises(ValueError, match=r"."):
            identifier(wrong)


def ring(wire: Any) -> None:
    """Put the three switches and their cables into the lab."""
    peers = dict(CABLES) | {b: a for a, b in CABLES}
    interfaces = {}
    for number, (place, peer) in enumerate(peers.items()):
        (node, _, name), (other, _, port) = place.partition(":"), peer.partition(":")
        interfaces[place] = Interface(node, name, f"02:00:00:00:01:{number:02x}", 1500, False, (other, port), place)
    switch = wire.lab.nodes["sw"]
    nodes = {
        name: replace(switch, name=name, interfaces=tuple(i for i in interfaces.values() if i.node == name))
        for name in MAC
    }
    links = tuple(Link(interfaces[a], interfaces[b]) for a, b in CABLES)
    wire.lab = replace(wire.lab, nodes={**wire.lab.nodes, **nodes}, links=(*wire.lab.links, *links))


def tables(wire: Any, node: str, *, states: dict[str, str] | None = None, info: dict[str, Any] | None = None) -> None:
    """The tables of a switch, as ip(8) and bridge(8) print them."""
    data = {"stp_state": 1, "bridge_id": IDENTIFIER[node], "root_id": IDENTIFIER[node], "root_port": node != "s1"}
    bridge = {"ifname": "br0", "linkinfo": {"info_kind": "bridge", "info_data": {**data, **(info or {})}}}
    ports = [place.partition(":")[2] for cable in CABLES for place in cable if place.startswith(f"{node}:")]
    given = dict.fromkeys(ports, "forwarding") | (states or {})
    links = [{"ifname": port, "master": "br0", "state": state, "priority": 32} for port, state in given.items()]
    wire.after[node] = {"stp": json.dumps([bridge]), "bridge-link": json.dumps(links)}


def say(wire: Any, speaker: str, listener: str, root: str = "s1") -> None:
    """A BPDU on a cable."""
    fields = {"stp.root.hw": (MAC[root],), "stp.bridge.hw": (MAC[speaker.partition(":")[0]],), "stp.type": (0,)}
    for place, way in ((speaker, "out"), (listener, "in")):
        wire.see(place, way, fields, ("eth", "llc", "stp"), f"{speaker} {root}".encode())


@pytest.fixture
def tree(wire: Any) -> Any:
    """s1 is the root; the cable between s2 and s3 is blocked at s3."""
    ring(wire)
    for node in MAC:
        tables(wire, node, states={"s2": "blocking"} if node == "s3" else None)
    for speaker, listener in SPEAKERS:
        say(wire, listener, speaker, root=listener.partition(":")[0])
    for speaker, listener in SPEAKERS:
        say(wire, speaker, listener)
    return wire


def test_spanning_tree(tree: Any) -> None:
    result = tree.verdict("spanning-tree", **TREE)
    assert result.verdict == "pass", result.reason
    assert "3 switches agree on s1 (1000.9a:a5:06:21:fd:de, the lowest identifier) as the root" in result.reason
    assert "2 cables forward as a tree" in result.reason
    assert "blocked: s2:s3 – s3:s2" in result.reason
    assert result.frames == (8, 10, 12)


def test_a_cable_that_is_out_is_no_part_of_it(tree: Any) -> None:
    tables(tree, "s1", states={"s2": "disabled"})
    tables(tree, "s2", states={"s1": "disabled"})
    tables(tree, "s3")
    say(tree, "s3:s2", "s2:s3")
    result = tree.verdict("spanning-tree", **TREE)
    assert result.verdict == "pass", result.reason
    assert "none is blocked; without carrier: s1:s2 – s2:s1" in result.reason


def test_ports_of_other_bridges_and_cables_to_hosts_do_not_count(tree: Any) -> None:
    links = json.loads(tree.after["s2"]["bridge-link"])
    tree.after["s2"]["bridge-link"] = json.dumps([link for link in links if link["ifname"] != "s3"])
    result = tree.verdict("spanning-tree", **TREE)
    assert result.verdict == "pass"
    assert "none is blocked" in result.reason


@pytest.mark.parametrize(
    ("node", "states", "words"),
    [
        ("s3", {}, "expected 2 forwarding cables between 3 switches, as a tree has; 3 forward, so there is a loop"),
        ("s3", {"s1": "blocking", "s2": "blocking"}, "s3 cannot be reached"),
        ("s3", {"s2": "listening"}, "s3:s2 is listening"),
        ("s1", {"s2": "learning"}, "s1:s2 is learning"),
    ],
)
def test_what_is_no_tree_fails(tree: Any, node: str, states: dict[str, str], words: str) -> None:
    tables(tree, node, states=states)
    result = tree.verdict("spanning-tree", **TREE)
    assert result.verdict == "fail"
    assert words in result.reason


@pytest.mark.parametrize(
    ("node", "info", "words"),
    [
        ("s2", {"stp_state": 0}, "expected s2 to run the spanning tree"),
        ("s2", {"root_port": 0}, "without a root port, as a root is: s1 (1000.9a:a5:06:21:fd:de) and s2 (8000."),
        ("s1", {"root_port": 1}, "without a root port, as a root is: none of them"),
        ("s3", {"bridge_id": "0.0:0:0:0:0:3"}, "expected s3 alone to be the root"),
    ],
)
def test_what_the_tables_say_otherwise_fails(tree: Any, node: str, info: dict[str, Any], words: str) -> None:
    tables(tree, node, states={"s2": "blocking"} if node == "s3" else None, info=info)
    result = tree.verdict("spanning-tree", **TREE)
    assert result.verdict == "fail"
    assert words in result.reason


def test_what_the_messages_say_otherwise_fails(tree: Any) -> None:
    say(tree, "s2:s3", "s3:s2", root="s2")
    result = tree.verdict("spanning-tree", **TREE)
    assert result.verdict == "fail"
    assert "frame 14 at s3:s2, the last BPDU on the cable s2:s3 – s3:s2, names 42:5e:dc:57:cc:2c" in result.reason


def test_messages_from_below_fail(tree: Any) -> None:
    say(tree, "s2:s1", "s1:s2")
    result = tree.verdict("spanning-tree", **TREE)
    assert result.verdict == "fail"
    assert "BPDUs to come in at 0 forwarding ports of s1, the root; they come in at 1 port" in result.reason


def test_a_silent_cable_fails_unless_the_record_has_a_gap(tree: Any) -> None:
    tree.frames = [frame for frame in tree.frames if frame.interface not in ("s2:s3", "s3:s2")]
    result = tree.verdict("spanning-tree", **TREE)
    assert result.verdict == "fail"
    assert "expected a BPDU on the cable s2:s3 – s3:s2; none was seen there" in result.reason
    tree.dropped["s2:s3"] = 1
    assert tree.verdict("spanning-tree", **TREE).verdict == "unknown"


def test_switches_without_cables_between_them_fail(tree: Any) -> None:
    for node in MAC:
        tables(tree, node, states={port: "disabled" for port in ("s1", "s2", "s3") if port != node})
    assert "expected cables between s1, s2 and s3" in tree.verdict("spanning-tree", **TREE).reason


@pytest.mark.parametrize("table", ["stp", "bridge-link"])
def test_a_missing_table_is_unknown(tree: Any, table: str) -> None:
    del tree.after["s2"][table]
    assert tree.verdict("spanning-tree", **TREE).verdict == "unknown"


def test_an_unreadable_identifier_is_unknown(tree: Any) -> None:
    tables(tree, "s2", info={"bridge_id": "?"})
    assert tree.verdict("spanning-tree", **TREE).verdict == "unknown"
