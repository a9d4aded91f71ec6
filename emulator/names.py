"""Names and hardware addresses. Pure: no state, no randomness, the same answer every time."""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Iterator

INTERFACE_NAME_MAX = 15
"""IFNAMSIZ - 1: the kernel's limit for the name of an interface (linux/if.h)."""

NODE_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
"""A node's name is its host name: one DNS label (RFC 1123, section 2.1)."""

INTERFACE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,14}")
"""What is accepted as an interface name: no slash, colon or space, does not look like an option, and none of the signs
that iptables (a final `+`) and ip (`@`) read in a way of their own."""

KERNEL_INTERFACES = frozenset(
    ("lo", "all", "default", "br0", "tunl0", "gre0", "gretap0", "erspan0", "sit0", "ip6tnl0", "ip6gre0", "ip_vti0",
     "ip6_vti0")
)  # fmt: skip
"""Names that a new network namespace, the sysctl tree or a switch's bridge has taken already."""

LAB_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
"""A lab's name is also the name of its run directory."""

NODES_MAX = 0xFFFF
"""As many nodes as the MAC addresses of a lab can number."""

INTERFACES_MAX = 0x1000
"""As many interfaces of one node as its MAC addresses can number."""

SWITCH_PORTS_MAX = 1023
"""As many ports as a Linux bridge takes: port number 0 is reserved (net/bridge/br_private.h, BR_MAX_PORTS)."""

_MAC_PREFIX = (0x02, 0x57, 0x4C)


def port_name(peer: str, taken: Collection[str]) -> str:
    """The name of a switch port whose cable goes to `peer`: the peer's name, shortened and numbered when needed.

    Returns a name of at most 15 characters that is not in `taken`.
    """
    base = re.sub(r"[^A-Za-z0-9_-]", "-", peer)
    if len(base) > INTERFACE_NAME_MAX:
        import hashlib  # here, since few names are that long and every command starts with this module

        digest = hashlib.sha256(peer.encode()).hexdigest()[:4]
        base = f"{base[: INTERFACE_NAME_MAX - 5]}-{digest}"
    if base not in taken and base not in KERNEL_INTERFACES:
        return base
    for number in range(2, 100_000):
        suffix = f"-{number}"
        name = base[: INTERFACE_NAME_MAX - len(suffix)] + suffix
        if name not in taken:
            return name
    raise ValueError(f"no free port name for {peer}")


def free_interfaces(taken: Collection[str]) -> Iterator[str]:
    """Those of eth0, eth1, … that are not in `taken` when it is their turn."""
    return (name for number in itertools.count() if (name := f"eth{number}") not in taken)


def mac_address(node_index: int, interface_index: int) -> str:
    """A locally administered unicast MAC (IEEE 802, bit 1 of the first octet), readable: 02:57:4c, node, interface.

    Args:
        node_index: 0 … 65,535, the node's place in the lab file.
        interface_index: 0 … 4,095, the interface's place in the node. From 256 on (large switches)
            the high bits go into the second octet, so that no two interfaces of a lab share an address.
    """
    if not (0 <= node_index <= NODES_MAX and 0 <= interface_index < INTERFACES_MAX):
        raise ValueError(f"no MAC address for node {node_index}, interface {interface_index}")
    first, second, third = _MAC_PREFIX
    high, low = divmod(interface_index, 256)
    return f"{first:02x}:{second + high:02x}:{third:02x}:{node_index >> 8:02x}:{node_index & 0xFF:02x}:{low:02x}"
