"""Network, broadcast address and hosts of a subnet: arithmetic with the address that the kernel has."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from ipaddress import IPv4Address, IPv4Interface
from typing import Any

from emulator.lab.checks.network import SubnetArithmetic
from emulator.lab.resolved import Interface
from emulator.verify.finding import Finding, failed, passed
from emulator.verify.view import View
from emulator.verify.wording import listed

_ALL_ONES = 2**32 - 1


def _held(view: View, interface: Interface) -> list[tuple[IPv4Interface, str]]:
    """The IPv4 addresses that the kernel has on an interface, each with the broadcast address that it has for it."""
    infos: Iterator[Mapping[str, Any]] = (
        info
        for entry in view.json_table(interface.node, "address")
        if entry.get("ifname") == interface.name
        for info in entry.get("addr_info", ())
        if info.get("family") == "inet"
    )
    return [
        (IPv4Interface(f"{info['local']}/{info.get('prefixlen', 32)}"), str(info.get("broadcast", "")))
        for info in infos
    ]


def _connected(view: View, interface: Interface) -> set[str]:
    """The networks that the kernel reaches directly by an interface, from its table of routes."""
    return {
        str(route.get("dst", ""))
        for route in view.json_table(interface.node, "route")
        if route.get("dev") == interface.name and "gateway" not in route and route.get("protocol") == "kernel"
    }


def _differences(check: SubnetArithmetic, own: IPv4Interface, broadcast: str, routes: set[str]) -> Iterator[str]:
    """Where lab file, arithmetic and kernel disagree about one address, one phrase each."""
    prefix = own.network.prefixlen
    mask = _ALL_ONES << (32 - prefix) & _ALL_ONES
    network = IPv4Address(int(own.ip) & mask)
    last = IPv4Address(int(own.ip) & mask | ~mask & _ALL_ONES)
    hosts = max(2 ** (32 - prefix) - 2, 0)
    if f"{network}/{prefix}" != str(check.network):
        yield f"its network is {own.ip} & {IPv4Address(mask)} = {network}/{prefix}, expected {check.network}"
    if last != check.broadcast:
        yield f"its broadcast is {network} | {IPv4Address(~mask & _ALL_ONES)} = {last}, expected {check.broadcast}"
    if hosts != check.hosts:
        yield f"it has room for 2^{32 - prefix} − 2 = {hosts:,} hosts, expected {check.hosts:,}"
    if check.first is not None and check.first != network + 1:
        yield f"its first host is {network} + 1 = {network + 1}, expected {check.first}"
    if check.last is not None and check.last != last - 1:
        yield f"its last host is {last} − 1 = {last - 1}, expected {check.last}"
    if broadcast != str(last):
        yield f"the kernel has the broadcast address {broadcast or 'none'}, expected {last}"
    if f"{network}/{prefix}" not in routes:
        known = listed(sorted(routes)) if routes else "none"
        yield f"the kernel's directly connected networks there: {known}; expected {network}/{prefix}"


def subnet_arithmetic(check: SubnetArithmetic, view: View) -> Finding:
    """What the lab file says of the network is what each address, its prefix length and the kernel say."""
    told = []
    for place in check.at:
        interface = view.lab.interface(place)
        held = _held(view, interface)
        if not held:
            return failed(f"expected {place} to have an IPv4 address in {check.network}; the kernel has none there")
        own, broadcast = next((item for item in held if item[0].ip in check.network), held[0])
        wrong = list(_differences(check, own, broadcast, _connected(view, interface)))
        if wrong:
            return failed(f"{place} has {own}: {'; '.join(wrong)}")
        told.append(f"{own.ip} ({place})")
    mask, free = check.network.netmask, 32 - check.network.prefixlen
    return passed(
        f"{listed(told, 8)}: & {mask} = {check.network.network_address}, | {check.network.hostmask} = "
        f"{check.broadcast}, 2^{free} − 2 = {check.hosts:,} hosts, {check.network.network_address + 1} to "
        f"{check.broadcast - 1}; the kernel has the same broadcast address and a route to {check.network}"
    )
