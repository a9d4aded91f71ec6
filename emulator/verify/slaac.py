"""How an IPv6 host comes to its address by itself, and makes sure that it is nobody else's (RFC 4862)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv6Address, IPv6Network

from emulator.capture.frame import Frame
from emulator.errors import counted
from emulator.lab.checks.network import DuplicateAddressDetection, Slaac
from emulator.verify.finding import Finding, absent, failed, passed
from emulator.verify.ipv6 import (
    ADVERTISEMENT,
    HOP_LIMIT,
    SOLICITATION,
    UNSPECIFIED,
    address_in,
    configured,
    group_mac,
    messages,
    solicited_node,
    target_of,
)
from emulator.verify.view import View
from emulator.verify.wording import at, listed, numbers

_ADVERTISED_ROUTER = 134
_PREFIX_OPTION, _ROUTE_OPTION = 3, 24
_LINK_LOCAL = IPv6Network("fe80::/10")
_PREFIX_BITS = 64
_FOREVER = 0xFFFFFFFF
"""A lifetime without end (RFC 4861, section 4.6.2)."""
_LIFETIME_SLACK_S = 10
"""How long after the last frame the tables may have been read, and whole seconds."""
_SECOND_NS = 1_000_000_000


def interface_identifier(mac: str) -> int:
    """The lower 64 bits that a MAC gives: ff:fe in its middle, the second lowest bit of its first octet turned (RFC
    2464, section 4)."""
    octets = bytes.fromhex(mac.replace(":", ""))
    return int.from_bytes(bytes([octets[0] ^ 2]) + octets[1:3] + b"\xff\xfe" + octets[3:], "big")


@dataclass(frozen=True)
class _Prefix:
    """A prefix that a router advertisement tells hosts to make addresses of; lifetimes in seconds."""

    network: IPv6Network
    valid_s: int
    preferred_s: int


def _prefixes(frame: Frame) -> Iterator[_Prefix]:
    """The prefix options with the A flag of a router advertisement (RFC 4861, section 4.6.2)."""
    names = ("", ".length", ".flag.a", ".valid_lifetime", ".preferred_lifetime")
    columns = [list(frame.fields.get(f"icmpv6.opt.prefix{name}", ())) for name in names]
    # Route options (RFC 4191) have a prefix and a length too, and nothing else of this.
    kinds = [kind for kind in frame.fields.get("icmpv6.opt.type", ()) if kind in (_PREFIX_OPTION, _ROUTE_OPTION)]
    if len(kinds) == len(columns[0]):
        for column in columns[:2]:
            column[:] = [value for kind, value in zip(kinds, column, strict=False) if kind == _PREFIX_OPTION]
    for prefix, length, autonomous, valid_s, preferred_s in zip(*columns, strict=False):
        address = address_in(str(prefix))
        if address is not None and autonomous and int(length) == _PREFIX_BITS:
            yield _Prefix(IPv6Network((address, _PREFIX_BITS), strict=False), int(valid_s), int(preferred_s))


def _advertisement(check: Slaac, view: View) -> Finding | tuple[Frame, _Prefix]:
    """The router's last advertisement that a host may use, and its prefix; or what is wrong with those that came."""
    router = view.lab.interface(check.router)
    came = [f for f in messages(view.at(check.client), _ADVERTISED_ROUTER) if f.direction != "out"]
    if not came:
        return view.lacking(f"a router advertisement of {check.router}", check.client)
    own = [frame for frame in came if frame.text("eth.src") == router.mac]
    if not own:
        return absent(
            f"expected a router advertisement of {check.router} ({router.mac}) at {check.client}; {at(came[0])} is "
            f"one of {came[0].text('eth.src')}",
            check.client,
            frames=came,
        )
    sound = [frame for frame in own if _is_link_local(frame) and frame.number_of("ipv6.hlim") == HOP_LIMIT]
    if not sound:
        return absent(
            "expected a router advertisement from a link-local address with hop limit 255 (RFC 4861, section 6.1.2); "
            f"{at(own[-1])} comes from {own[-1].text('ipv6.src')} with {own[-1].number_of('ipv6.hlim')}, and hosts "
            "ignore it",
            check.client,
            frames=own,
        )
    for frame in reversed(sound):
        for prefix in _prefixes(frame):
            return frame, prefix
    last = sound[-1]
    told = [str(value) for value in last.fields.get("icmpv6.opt.prefix", ())]
    instead = f"tells {listed(told)} without that flag or not with 64 bits" if told else "tells no prefix"
    return absent(
        f"expected a prefix of 64 bits with the A flag in the advertisements of {check.router}; {at(last)} {instead}",
        check.client,
        frames=sound,
    )


def _is_link_local(frame: Frame) -> bool:
    source = address_in(frame.text("ipv6.src"))
    return source is not None and source in _LINK_LOCAL


def _lifetime_wrong(view: View, advertised: Frame, told_s: int, left_s: int) -> bool:
    """Whether what is left of a lifetime does not follow from what `advertised` told."""
    if told_s == _FOREVER:
        return left_s != _FOREVER
    ended_ns = max(frame.time_ns for frame in view.all_frames)
    elapsed_s = (ended_ns - advertised.time_ns) / _SECOND_NS
    return not told_s - elapsed_s - _LIFETIME_SLACK_S <= left_s <= told_s


def slaac(check: Slaac, view: View) -> Finding:
    """From the router's advertisement to the client's address, its lifetimes and its default route."""
    found = _advertisement(check, view)
    if isinstance(found, Finding):
        return found
    advertised, prefix = found
    interface = view.lab.interface(check.client)
    address = prefix.network[interface_identifier(interface.mac)]
    infos = configured(view, interface)
    info = next((info for info in infos if IPv6Address(str(info["local"])) == address), None)
    if info is None or info.get("tentative") or info.get("dadfailed"):
        has = listed([f"{each['local']}/{each.get('prefixlen')}" for each in infos], 5) if infos else "no IPv6 address"
        what = f"it has {has}" if info is None else "it is there, but not yet found to be nobody else's"
        if info is not None and info.get("dadfailed"):
            what = "another node has that address (duplicate address detection failed)"
        return failed(
            f"expected {check.client} to use {address}, the prefix of {at(advertised)} and the interface identifier of "
            f"its MAC {interface.mac}; {what}",
            [advertised],
        )
    if info.get("prefixlen") != _PREFIX_BITS or not info.get("dynamic"):
        return failed(
            f"expected {address} as /64 with the lifetimes of an advertisement; {check.client} has it as "
            f"/{info.get('prefixlen')}, {'with' if info.get('dynamic') else 'set by hand without'} lifetimes",
            [advertised],
        )
    told = {"valid": prefix.valid_s, "preferred": prefix.preferred_s}
    for name, seconds in told.items():
        left_s = int(info.get(f"{name}_life_time", -1))
        if _lifetime_wrong(view, advertised, seconds, left_s):
            return failed(
                f"expected {address} to stay {name} for at most the {counted(seconds, 'second')} that {at(advertised)} "
                f"tells, less what has passed; the kernel has {left_s:,} left",
                [advertised],
            )
    router = address_in(advertised.text("ipv6.src"))
    routes = view.json_table(interface.node, "route6")
    defaults = [hop for route in routes if route.get("dst") == "default" for hop in route.get("nexthops", [route])]
    gateways = [address_in(str(hop.get("gateway"))) for hop in defaults if hop.get("dev") == interface.name]
    if gateways != [router]:
        has = listed([str(gateway) for gateway in gateways]) if gateways else "no default route"
        return failed(
            f"expected the default route of {interface.node} to go to {router}, the link-local address of "
            f"{check.router} in {at(advertised)}; it has {has}",
            [advertised],
        )
    return passed(
        f"{at(advertised)} tells {prefix.network} for {counted(prefix.valid_s, 'second')}; with the interface "
        f"identifier of its MAC {interface.mac} {check.client} made {address} of it, and its default route goes to "
        f"{router} ({check.router})",
        [advertised],
    )


def _alone(check: DuplicateAddressDetection, view: View, address: IPv6Address, probes: Sequence[Frame]) -> Finding:
    """Whether one address was asked for before it was used, and nobody else had it or wanted it."""
    interface, frames, probe = view.lab.interface(check.at), view.at(check.at), probes[0]
    group = solicited_node(address)
    if address_in(probe.text("ipv6.dst")) != group or probe.text("eth.dst") != group_mac(group):
        return failed(
            f"expected the question for {address} to go to its solicited-node group {group} ({group_mac(group)}); "
            f"{at(probe)} goes to {probe.text('ipv6.dst')} ({probe.text('eth.dst')})",
            [probe],
        )
    others = [frame for frame in frames if frame.direction != "out" and frame.text("eth.src") != interface.mac]
    for frame in others:
        if target_of(frame) != address:
            continue
        if frame.number_of("icmpv6.type") == ADVERTISEMENT:
            return failed(
                f"expected nobody to answer the question for {address} in {at(probe)}; {at(frame)} does: "
                f"{frame.text('eth.src')} has that address",
                [probe, frame],
            )
        if address_in(frame.text("ipv6.src")) == UNSPECIFIED:
            return failed(
                f"expected nobody else to want {address}, which {at(probe)} asks for; in {at(frame)} "
                f"{frame.text('eth.src')} asks for it from :: too (RFC 4862, section 5.4.3)",
                [probe, frame],
            )
    used = [
        frame
        for frame in frames
        if frame.text("eth.src") == interface.mac
        and frame.direction != "in"
        and address_in(frame.text("ipv6.src")) == address
    ]
    if used and used[0].number < probe.number:
        return failed(
            f"expected {check.at} to ask for {address} before it uses it; {at(used[0])} came from that address before "
            f"the question in frame {probe.number}",
            [used[0], probe],
        )
    infos = [info for info in configured(view, interface) if IPv6Address(str(info["local"])) == address]
    if any(info.get("dadfailed") for info in infos):
        return failed(
            f"expected {address} to be found unique at {check.at}; its kernel says that another node has it",
            [*probes],
        )
    if not used and (not infos or infos[0].get("tentative")):
        state = "still tentative" if infos else "not configured"
        return absent(
            f"expected {check.at} to use {address} after the question in {at(probe)}; no packet came from it, and in "
            f"the kernel it is {state}",
            check.at,
            frames=probes,
        )
    use = "the kernel has it since"
    if used:
        waited_s = (used[0].time_ns - probes[-1].time_ns) / _SECOND_NS
        use = f"first used {waited_s:.1f} s later (frame {used[0].number})"
    return passed(
        f"{address} asked for from :: ({numbers(probes)}), nobody answered, {use}",
        [*probes, *used[:1]],
    )


def duplicate_address_detection(check: DuplicateAddressDetection, view: View) -> Finding:
    """Every address that the interface asks for from :: in this time is nobody else's and is used only afterwards."""
    interface = view.lab.interface(check.at)
    probes: dict[IPv6Address, list[Frame]] = {}
    for frame in messages(view.at(check.at), SOLICITATION):
        address = target_of(frame)
        if (
            address is not None
            and frame.direction != "in"
            and frame.text("eth.src") == interface.mac
            and address_in(frame.text("ipv6.src")) == UNSPECIFIED
        ):
            probes.setdefault(address, []).append(frame)
    if not probes:
        return view.lacking(f"a neighbour solicitation of {check.at} from ::", check.at)
    findings = [_alone(check, view, address, asked) for address, asked in probes.items()]
    for finding in findings:
        if finding.verdict != "pass":
            return finding
    return Finding(
        findings[0].verdict,
        listed([finding.reason for finding in findings], 4),
        tuple(number for finding in findings for number in finding.frames),
    ).if_whole(check.at)
