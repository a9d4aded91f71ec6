"""Programs that labs need, and the packages that bring them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

from emulator.run.spawn import PATH

PACKAGES: Mapping[str, str] = {
    "arping": "iputils-arping",
    "bridge": "iproute2",
    "busybox": "busybox",
    "conntrack": "conntrack",
    "curl": "curl",
    "dig": "bind9-dnsutils",
    "dnsmasq": "dnsmasq-base",
    "dhclient": "isc-dhcp-client",
    "ip": "iproute2",
    "ip6tables": "iptables",
    "iptables": "iptables",
    "iptables-restore": "iptables",
    "iptables-save": "iptables",
    "ldns-keygen": "ldnsutils",
    "ldns-signzone": "ldnsutils",
    "nft": "nftables",
    "nsd": "nsd",
    "nstat": "iproute2",
    "openssl": "openssl",
    "ping": "iputils-ping",
    "python3": "python3",
    "socat": "socat",
    "ss": "iproute2",
    "sysctl": "procps",
    "tc": "iproute2",
    "tcpdump": "tcpdump",
    "tshark": "tshark",
    "udhcpc": "udhcpc",
    "unbound": "unbound",
    "unbound-control": "unbound",
    "wireshark": "wireshark",
}
"""Program → Debian and Ubuntu package."""


def find(program: str) -> str | None:
    """The path of a program as a node finds it, or None."""
    for folder in PATH.split(":"):
        path = f"{folder}/{program}"
        if os.access(path, os.X_OK) and os.path.isfile(path):
            return path
    return None


def missing(programs: Iterable[str]) -> list[str]:
    """Those of `programs` that this machine lacks."""
    return sorted(program for program in set(programs) if "/" not in program and find(program) is None)


def package_hint(programs: Iterable[str]) -> str:
    """The command that installs what brings `programs`, for this machine's package manager."""
    packages = sorted({PACKAGES.get(program, program) for program in programs})
    sudo = "" if os.geteuid() == 0 else "sudo "
    if find("apt-get"):
        return f"{sudo}apt-get install {' '.join(packages)}"
    return f"install the packages that Debian calls {' '.join(packages)}"


def known_package_hint(program: str) -> str | None:
    """The command that installs what brings `program`; None when that is not known."""
    return package_hint([program]) if program in PACKAGES else None
