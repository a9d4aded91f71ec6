"""A cable pulled and put back in a running lab.

A veth pair has no plug: it loses its carrier when either end is switched off. The end at a switch is chosen where there
is one, since a switch keeps no routes; otherwise the named end, whose routes are set again when the cable is back. Both
ends forget their neighbours then, as they would when a carrier comes back.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from emulator.errors import CommandFailed, UsageError
from emulator.lab.problems import near
from emulator.lab.resolved import Interface, ResolvedLab
from emulator.plan.addresses import gateway
from emulator.run.session import Session


def end_to_switch(lab: ResolvedLab, place: str) -> Interface:
    """The interface that is switched off when the cable at `place` is pulled: of two switches that of the one which the
    lab file's link names first, of two hosts that at `place`.

    Raises:
        UsageError: the lab has no such interface.
    """
    try:
        interface = lab.interface(place)
    except KeyError:
        known = [entry.place for entry in lab.interfaces()]
        raise UsageError(f"no interface {place} in the lab {lab.name}", hint=near(place, known)) from None
    if interface.peer is None:
        raise UsageError(f"{place} has no cable")
    peer = lab.interface(":".join(interface.peer))
    if interface.bridge and peer.bridge:  # the same one, whichever is named
        return next(link.a for link in lab.links if place in (link.a.place, link.b.place))
    return peer if peer.bridge else interface


def set_cable(lab: ResolvedLab, session: Session, place: str, *, plugged: bool, off: Collection[str] = ()) -> None:
    """Pull the cable at `place`, or put it back and with it the routes that went. At nodes that are `off` nothing is
    done: their cables have no carrier, and what they need is set when they are switched on."""
    end = end_to_switch(lab, place)
    peer = lab.interface(":".join(end.peer or ()))
    if end.node in off:
        return
    commands = [(end, ["link", "set", "dev", end.name, "up" if plugged else "down"])]
    if plugged:
        commands += [(end, ["route", "replace", to, "via", via, "dev", end.name]) for to, via in _routes(lab, end)]
        # Who asked for a neighbour in vain while the cable was out would give up on it for seconds more.
        fresh = [entry for entry in (end, peer) if not entry.bridge]
        commands += [(entry, ["neighbour", "flush", "dev", entry.name]) for entry in fresh]
    for interface, words in commands:
        result = session.run_one(interface.node, ["ip", *words], timeout_s=10, tools=True)
        if result.status != 0:
            raise CommandFailed(f"cannot switch {interface.place}: {result.stderr.strip()}")


def _routes(lab: ResolvedLab, end: Interface) -> Iterator[tuple[str, str]]:
    """Routes that go with an interface that is switched off: destination and next hop."""
    for route in lab.nodes[end.node].routes:
        if route.interface == end.name:
            yield "default" if route.to is None else str(route.to), str(route.via)
    if end.dhcp and (leased := gateway(lab, end.node)):
        yield "default", leased
