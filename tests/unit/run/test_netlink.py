"""Messages to the kernel are those that pyroute2 makes, octet for octet."""

from __future__ import annotations

import json
import os
from ipaddress import ip_address
from typing import Any

import pytest
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from emulator.run import kernel, netlink

ONE_QUEUE = [("IFLA_NUM_TX_QUEUES", 1), ("IFLA_NUM_RX_QUEUES", 1)]


def encoded(message: Any, kind: int, flags: int) -> bytes:
    message["header"]["type"] = kind
    message["header"]["flags"] = flags
    message.encode()
    octets = bytes(message.data)
    return octets + bytes(-len(octets) % 4)


def link(index: int, attributes: list[Any], *, flags: int = 0, change: int = 0) -> Any:
    message = ifinfmsg()
    message["index"] = index
    message["flags"], message["change"] = flags, change
    message["attrs"] = attributes
    return message


@pytest.mark.parametrize("stp", [False, True])
@pytest.mark.parametrize("mac", [None, "02:57:4c:00:01:0a"])
def test_bridge(stp: bool, mac: str | None) -> None:
    data = [("IFLA_BR_FORWARD_DELAY", 0), ("IFLA_BR_STP_STATE", 0)]
    if stp:
        data = [
            ("IFLA_BR_FORWARD_DELAY", 200),
            ("IFLA_BR_HELLO_TIME", 100),
            ("IFLA_BR_MAX_AGE", 600),
            ("IFLA_BR_PRIORITY", 4096),
            ("IFLA_BR_STP_STATE", 1),
        ]
    data += [("IFLA_BR_MCAST_SNOOPING", 0), ("IFLA_BR_AGEING_TIME", 30000)]
    info = {"attrs": [("IFLA_INFO_KIND", "bridge"), ("IFLA_INFO_DATA", {"attrs": data})]}
    address = [("IFLA_ADDRESS", mac)] if mac else []
    expected = link(2, [("IFLA_IFNAME", "br0"), *address, ("IFLA_LINKINFO", info)], flags=1, change=1)
    settings = netlink.BridgeSettings(300, stp, 4096, 1, 2, 6)
    assert netlink.new_bridge(2, "br0", mac, settings) == encoded(expected, 16, 0x601)


@pytest.mark.parametrize("name", ["h1", "abc", "port-name-long"])  # with and without octets that fill up
@pytest.mark.parametrize(("up", "master"), [(False, 0), (True, 2), (False, 2)])
def test_veth(name: str, up: bool, master: int) -> None:
    peer = {
        "index": 8,
        "attrs": [
            ("IFLA_IFNAME", "eth0"),
            ("IFLA_ADDRESS", "02:57:4c:00:01:00"),
            ("IFLA_MTU", 1500),
            *ONE_QUEUE,
            ("IFLA_NET_NS_FD", 17),
        ],
    }
    info = {"attrs": [("IFLA_INFO_KIND", "veth"), ("IFLA_INFO_DATA", {"attrs": [("VETH_INFO_PEER", peer)]})]}
    attributes = [("IFLA_IFNAME", name), ("IFLA_ADDRESS", "02:57:4c:00:02:00"), ("IFLA_MTU", 1500), *ONE_QUEUE]
    if master:
        attributes.append(("IFLA_MASTER", master))
    expected = link(7, [*attributes, ("IFLA_LINKINFO", info)], flags=int(up), change=int(up))
    here = netlink.End(7, name, "02:57:4c:00:02:00", 3, master)
    there = netlink.End(8, "eth0", "02:57:4c:00:01:00", 17)
    assert netlink.new_veth(here, there, 1500, up=up) == encoded(expected, 16, 0x601)


def test_changes_of_an_interface() -> None:
    assert netlink.set_up(5) == encoded(link(5, [], flags=1, change=1), 16, 1)
    assert netlink.set_up(5, up=False) == encoded(link(5, [], change=1), 16, 1)
    assert netlink.set_master(5, 2) == encoded(link(5, [("IFLA_MASTER", 2)]), 19, 1)
    assert netlink.delete_link(5) == encoded(link(5, []), 17, 1)
    attributes = [("IFLA_ADDRESS", "02:00:00:00:00:01"), ("IFLA_MTU", 1400), ("IFLA_MASTER", 0)]
    assert netlink.set_end(5, "02:00:00:00:00:01", 1400, 0) == encoded(link(5, attributes), 19, 1)


@pytest.mark.parametrize(
    ("address", "prefix", "broadcast"),
    [("10.0.0.7", 22, "10.0.3.255"), ("192.0.2.1", 31, None), ("2001:db8::7", 64, None)],
)
def test_address(address: str, prefix: int, broadcast: str | None) -> None:
    message = ifaddrmsg()
    message["family"] = 10 if ":" in address else 2
    message["prefixlen"], message["index"] = prefix, 9
    message["attrs"] = [("IFA_LOCAL", address), ("IFA_ADDRESS", address)]
    if broadcast:
        message["attrs"].append(("IFA_BROADCAST", broadcast))
    octets = ip_address(broadcast).packed if broadcast else None
    assert netlink.new_address(9, ip_address(address).packed, prefix, octets) == encoded(message, 20, 0x601)


@pytest.mark.parametrize(
    ("destination", "prefix", "gateway"),
    [(None, 0, "10.0.0.1"), ("192.0.2.0", 24, "10.0.0.1"), ("2001:db8::", 32, "fe80::1")],
)
def test_route(destination: str | None, prefix: int, gateway: str) -> None:
    message = rtmsg()
    message["family"] = 10 if ":" in gateway else 2
    message["dst_len"], message["table"], message["proto"] = prefix, 254, 4
    message["scope"], message["type"] = 0, 1
    message["attrs"] = [("RTA_GATEWAY", gateway), ("RTA_OIF", 4)]
    if destination:
        message["attrs"].append(("RTA_DST", destination))
    octets = ip_address(destination).packed if destination else None
    assert netlink.new_route(octets, prefix, ip_address(gateway).packed, 4) == encoded(message, 24, 0x601)


def test_what_the_kernel_refuses_is_found_in_a_long_batch() -> None:
    """Messages about an interface that is not there, among others that do their work, over several batches."""
    count = 2 * netlink.MESSAGES_A_BATCH + 7
    wrong = {0, netlink.MESSAGES_A_BATCH - 1, netlink.MESSAGES_A_BATCH, 100, count - 1}
    messages = [netlink.set_up(1 << 30 if number in wrong else 1) for number in range(count)]
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        said = "died"
        try:
            kernel.unshare(kernel.CLONE_NEWUSER | kernel.CLONE_NEWNET)
            with netlink.Socket() as socket:
                failures = [*socket.send(messages), *socket.send([netlink.set_up(1)] * 5)]
            said = json.dumps([(failure.index, failure.reason) for failure in failures])
        finally:
            os.write(writing, said.encode())
            os._exit(0)
    os.close(writing)
    with open(reading, encoding="utf-8") as stream:
        said = stream.read()
    os.waitpid(child, 0)
    assert json.loads(said) == [[number, "No such device"] for number in sorted(wrong)]
