"""DHCP: the four messages of an exchange (RFC 2131, section 3.1), the lease that comes of it, and its renewal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address, IPv4Interface

from emulator.capture.frame import Frame
from emulator.errors import counted
from emulator.lab.checks.application import DhcpExchange, DhcpRenewal, Lease
from emulator.lab.services import DhcpPool
from emulator.verify.arp import BROADCAST
from emulator.verify.finding import DisprovedError, Finding, MissingEvidenceError, absent, failed, passed
from emulator.verify.view import View
from emulator.verify.wording import DHCP_MESSAGES, at, listed, numbers

_DISCOVER, _OFFER, _REQUEST, _ACK, _NAK = 1, 2, 3, 5, 6
_EXCHANGE = (_DISCOVER, _OFFER, _REQUEST, _ACK)
_TO_EVERYBODY = "255.255.255.255"
_NO_ADDRESS = "0.0.0.0"
_EARLY_S, _LATE_S = 1.5, 5.0
"""How far a renewal may be from T1: clients count whole seconds and add some fuzz (RFC 2131, section 4.4.5), and on a
busy machine they are late."""
_SECOND_NS = 1_000_000_000


def _kind(frame: Frame) -> int:
    """The message type (RFC 2132, section 9.6)."""
    return frame.number_of("dhcp.option.dhcp")


def _of_client(view: View, client: str, at_: str) -> list[Frame]:
    """The DHCP messages of a client, as seen at a place: those with its MAC in `chaddr`."""
    mac = view.lab.interface(client).mac
    return [frame for frame in view.at(at_) if frame.text("dhcp.hw.mac_addr").lower() == mac]


def _exchange(messages: Sequence[Frame]) -> list[Frame] | None:
    """The first discover, offer, request and acknowledgement in this order that share a transaction id."""
    for transaction in dict.fromkeys(frame.number_of("dhcp.id") for frame in messages):
        wanted = list(_EXCHANGE)
        found = []
        for frame in messages:
            if wanted and frame.number_of("dhcp.id") == transaction and _kind(frame) == wanted[0]:
                found.append(frame)
                wanted.pop(0)
        if not wanted:
            return found
    return None


def dhcp_exchange(check: DhcpExchange, view: View) -> Finding:
    """Discover and request go to everybody, offer and acknowledgement come from the server, all with one id."""
    messages = _of_client(view, check.client, check.client)
    exchange = _exchange(messages)
    if exchange is None:
        seen = [f"{DHCP_MESSAGES.get(_kind(f), 'other')} (id {f.number_of('dhcp.id'):#010x})" for f in messages]
        told = ", ".join(seen[:6]) or "no DHCP message of it"
        return absent(
            f"expected Discover, Offer, Request, Ack with one transaction id at {check.client}{view.when}; saw {told}",
            check.client,
            frames=messages,
        )
    discover, offer, request, ack = exchange
    for frame in (discover, request):
        if frame.text("eth.dst") != BROADCAST or frame.text("ip.dst") != _TO_EVERYBODY:
            return failed(
                f"expected {DHCP_MESSAGES[_kind(frame)]} to be broadcast; {at(frame)} goes to {frame.text('eth.dst')}, "
                f"{frame.text('ip.dst')}",
                [frame],
            )
    server = view.address(check.server)
    for frame in (offer, ack):
        if frame.text("dhcp.option.dhcp_server_id") != server:
            return failed(
                f"expected {DHCP_MESSAGES[_kind(frame)]} from {check.server} ({server}); {at(frame)} names server "
                f"{frame.text('dhcp.option.dhcp_server_id')}",
                [frame],
            )
    transaction = discover.number_of("dhcp.id")
    there = [f for f in _of_client(view, check.client, check.server) if f.number_of("dhcp.id") == transaction]
    lacking = [DHCP_MESSAGES[kind] for kind in _EXCHANGE if kind not in {_kind(frame) for frame in there}]
    if lacking:
        return absent(
            f"expected {', '.join(lacking)} also at {check.server}; not seen there", check.server, frames=exchange
        )
    return passed(
        f"Discover, Offer, Request, Ack ({numbers(exchange)} at {check.client}), all with transaction id "
        f"{transaction:#010x}; {check.server} gave {ack.text('dhcp.ip.your')}",
        exchange,
    )


def _pool(view: View, server: str) -> DhcpPool:
    """The lab's pool for the network at the server's interface."""
    node, _, interface = server.partition(":")
    dnsmasq = view.lab.nodes[node].services.dnsmasq
    for pool in dnsmasq.dhcp if dnsmasq else ():
        if pool.interface == interface:
            return pool
    raise DisprovedError(f"expected a DHCP pool at {server}; the lab has none")


def _differences(view: View, check: Lease, pool: DhcpPool, ack: Frame) -> Iterator[str]:
    """Where the acknowledgement differs from the lab, one phrase each."""
    own = next(a for a in view.lab.interface(check.server).addresses if isinstance(a, IPv4Interface))
    given = IPv4Address(ack.text("dhcp.ip.your"))
    reserved = pool.reservations.get(check.client.partition(":")[0])
    if reserved is not None and given != reserved:
        yield f"address {given}, expected the reserved {reserved}"
    if reserved is None and (not pool.range[0] <= given <= pool.range[1] or given in pool.reservations.values()):
        yield f"address {given}, expected a free one of {pool.range[0]} to {pool.range[1]}"
    expected = {
        "mask": ("dhcp.option.subnet_mask", str(own.netmask)),
        "gateway": ("dhcp.option.router", view.literal_address(pool.gateway or "", str(own.ip))),
        "DNS server": ("dhcp.option.domain_name_server", view.literal_address(pool.dns or "", str(own.ip))),
        "lease time": ("dhcp.option.ip_address_lease_time", str(pool.lease_time)),
    }
    if pool.domain:
        expected["domain"] = ("dhcp.option.domain_name", pool.domain)
    for what, (field, value) in expected.items():
        if ack.text(field) != value:
            yield f"{what} {ack.text(field) or 'not given'}, expected {value}"


def lease(check: Lease, view: View) -> Finding:
    """What the acknowledgement gives is what the lab says (RFC 2132), and the client's kernel has it."""
    pool = _pool(view, check.server)
    acks = [f for f in _of_client(view, check.client, check.client) if _kind(f) == _ACK and f.direction != "out"]
    if not acks:
        return view.lacking(f"a DHCP Ack for {check.client}", check.client)
    ack = acks[-1]
    wrong = list(_differences(view, check, pool, ack))
    if wrong:
        return failed(f"{at(ack)} gives {'; '.join(wrong)}", [ack])
    interface = view.lab.interface(check.client)
    given = IPv4Interface(f"{ack.text('dhcp.ip.your')}/{ack.text('dhcp.option.subnet_mask')}")
    configured = view.configured(interface)
    if given not in configured:
        has = ", ".join(map(str, configured)) or "no address"
        return failed(f"expected {check.client} to use {given}, which {at(ack)} gave; it has {has}", [ack])
    gateway = ack.text("dhcp.option.router")
    if view.gateway(interface.node) != (gateway, interface.name):
        via = view.gateway(interface.node)
        has = f"goes to {via[0]} by {via[1]}" if via else "is missing"
        return failed(f"expected the default route of {interface.node} to go to {gateway}; it {has}", [ack])
    kind = "reserved for it" if interface.node in pool.reservations else f"from {pool.range[0]} to {pool.range[1]}"
    return passed(
        f"{check.client} got and uses {given} ({kind}), gateway {gateway}, "
        f"DNS server {ack.text('dhcp.option.domain_name_server')}, for {counted(pool.lease_time, 'second')} (frame "
        f"{ack.number})",
        [ack],
    )


def _written(messages: Sequence[Frame]) -> str:
    """The messages in words: `Request 192.0.2.9 (frame 3), Ack (frame 4)`."""
    words = []
    for frame in messages:
        own = frame.text("dhcp.ip.client")
        name = DHCP_MESSAGES.get(_kind(frame), f"message {_kind(frame)}")
        words.append(f"{name}{f' with ciaddr {own}' if own not in ('', _NO_ADDRESS) else ''} (frame {frame.number})")
    return listed(words, 6) if words else "no DHCP message of it"


def _renewed(check: DhcpRenewal, view: View, request: Frame, messages: Sequence[Frame]) -> Finding | Frame:
    """The acknowledgement of one request, or what is wrong with either."""
    server, address = view.address(check.server), request.text("dhcp.ip.client")
    mac = view.lab.interface(check.server).mac
    if request.text("eth.dst") == BROADCAST or request.text("ip.dst") == _TO_EVERYBODY:
        return failed(
            f"expected the renewal to go to {check.server} alone; {at(request)} is for everybody, as a client asks "
            "that could not reach its own server until T2 (RFC 2131, section 4.4.5: rebinding)",
            [request],
        )
    if request.text("ip.dst") != server or request.text("eth.dst") != mac:
        return failed(
            f"expected the renewal to go to {check.server} ({server}, {mac}); {at(request)} goes to "
            f"{request.text('ip.dst')}, {request.text('eth.dst')}",
            [request],
        )
    if request.text("ip.src") != address:
        return failed(
            f"expected the renewal to come from the address that it is about, {address}; {at(request)} comes from "
            f"{request.text('ip.src')}",
            [request],
        )
    for what, field in (("server identifier", "dhcp_server_id"), ("requested address", "requested_ip_address")):
        value = request.text(f"dhcp.option.{field}")
        if value:
            return failed(
                f"expected a renewal without a {what} option (RFC 2131, section 4.3.2); {at(request)} has {value}",
                [request],
            )
    transaction = request.number_of("dhcp.id")
    later = [f for f in messages if f.number > request.number and f.number_of("dhcp.id") == transaction]
    replies = [frame for frame in later if _kind(frame) in (_ACK, _NAK)]
    if not replies:
        strange = [f for f in messages if f.number > request.number and _kind(f) == _ACK]
        none = f"the Ack in frame {strange[0].number} has another transaction id" if strange else "none came"
        return absent(
            f"expected an Ack with transaction id {transaction:#010x} to the renewal in {at(request)}; {none}",
            check.client,
            frames=[request, *strange[:1]],
        )
    reply = replies[0]
    if _kind(reply) == _NAK:
        return failed(f"expected an Ack to the renewal in {at(request)}; {at(reply)} is a Nak", [request, reply])
    if reply.text("dhcp.option.dhcp_server_id") != server or reply.text("dhcp.ip.your") != address:
        return failed(
            f"expected the Ack to extend {address} from server {server}; {at(reply)} gives "
            f"{reply.text('dhcp.ip.your')} from server {reply.text('dhcp.option.dhcp_server_id')}",
            [request, reply],
        )
    return reply


def _punctual(check: DhcpRenewal, view: View, request: Frame) -> Finding | float:
    """Seconds from the acknowledgement before to the request, or that they are not T1. All frames count here."""
    earlier = [
        frame
        for frame in _of_client(view.limited_to(None), check.client, check.client)
        if frame.number < request.number and _kind(frame) == _ACK
    ]
    if not earlier:
        raise MissingEvidenceError(f"the Ack before the renewal in {at(request)} was not captured")
    seconds = (request.time_ns - earlier[-1].time_ns) / _SECOND_NS
    if check.after is not None and not -_EARLY_S <= seconds - check.after <= _LATE_S:
        return failed(
            f"expected the renewal {counted(check.after, 'second')} (T1) after the Ack in frame {earlier[-1].number}; "
            f"{at(request)} came after {seconds:.1f}",
            [earlier[-1], request],
        )
    return seconds


def dhcp_renewal(check: DhcpRenewal, view: View) -> Finding:
    """Each request with ciaddr goes to the server alone, is acknowledged, and comes when T1 is over."""
    messages = _of_client(view, check.client, check.client)
    requests = [f for f in messages if _kind(f) == _REQUEST and f.text("dhcp.ip.client") not in ("", _NO_ADDRESS)]
    if not requests:
        return absent(
            f"expected a Request of {check.client} with its own address in ciaddr{view.when}; saw {_written(messages)}",
            check.client,
            frames=messages,
        )
    there = _of_client(view, check.client, check.server)
    cited: list[Frame] = []
    waited: list[float] = []
    for request in requests:
        ack = _renewed(check, view, request, messages)
        if isinstance(ack, Finding):
            return ack
        transaction = request.number_of("dhcp.id")
        if {_REQUEST, _ACK} - {_kind(f) for f in there if f.number_of("dhcp.id") == transaction}:
            return absent(
                f"expected the Request and the Ack of {numbers([request, ack])} also at {check.server}; not seen there",
                check.server,
                frames=[request, ack],
            )
        if check.after is not None:
            seconds = _punctual(check, view, request)
            if isinstance(seconds, Finding):
                return seconds
            waited.append(seconds)
        cited += [request, ack]
    request, ack = cited[:2]
    tail = f", {waited[0]:.1f} s after the Ack before (T1 = {check.after} s)" if waited else ""
    more = f"; {counted(len(requests), 'renewal')} in all" if len(requests) > 1 else ""
    return passed(
        f"Request with ciaddr {request.text('dhcp.ip.client')} to {check.server} alone (frame {request.number}){tail}, "
        f"Ack with the same transaction id {request.number_of('dhcp.id'):#010x} (frame {ack.number}){more}",
        cited,
    )
