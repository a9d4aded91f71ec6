"""A process inside a lab that asks and listens for its hosts. Standard library only.

    python -I -S -c "…main(sys.argv[1:])" RUN_DIRECTORY

It takes one JSON object a line on standard input, and gives one a line on standard output for each. It enters the lab's
user namespace for good and goes from node to node in its network namespaces, so it is a process of its own. When
standard input ends, whatever it was doing ends, and the neighbour entries that it made go with it.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import json
import os
import resource
import select
import signal
import socket
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from emulator.errors import WirelabError
from emulator.reach import softnet
from emulator.reach.mmsg import BATCH, Inbox, Outbox
from emulator.reach.neighbours import OURS, Pin, pin, removal
from emulator.reach.places import Places
from emulator.reach.scheme import Scheme
from emulator.run.control import Control

Work = Mapping[int, Sequence[int]]
"""Sender → the endpoints that it asks."""

Pins = Mapping[int, Iterable[int]]
"""Endpoint → those whose neighbour entries are wanted at its interface."""

FIRST_PATIENCE_S: Final = 0.03
"""How long the first attempt waits when no reply comes any more."""

LATER_PATIENCES_S: Final = (0.1, 0.4, 1.0)
"""The same of the attempts that follow. With the last of them it goes on as long as they bring any reply."""

_SETTLE_S: Final = 10.0
"""How long it may take until all frames that wait on processors have been looked at."""

_AGAIN_AT_LEAST: Final = 2048
_UNPINNED_AT_ONCE: Final = 64
_AGAIN_PARTS: Final = 8
_NO_ROOM: Final = {errno.ENOBUFS, errno.ENOMEM, errno.EAGAIN}


class Ended(Exception):  # noqa: N818 — it names an event, not a kind of mistake
    """Nobody waits for answers any more."""


class Worker:
    """Does what it is told, one message at a time."""

    def __init__(self, places: Places, names: Sequence[str]) -> None:
        self._places = places
        self._names = names
        self._known: dict[str, set[tuple[int, bytes]]] = {}
        self._scheme = Scheme("", (), 0, ())
        self._nonce = b""
        self._addresses: list[bytes] = []
        self._pins: list[Pin] = []
        self._shared: set[int] = set()
        """Endpoints whose address is elsewhere too: a reply may be from there, so the request must be seen here."""
        self._subnets: list[str] = []
        self._outboxes: dict[int, Outbox] = {}
        self._inboxes: dict[int, Inbox] = {}
        self._held: dict[int, list[int]] = {}
        self._lost: dict[int, list[int]] = {}
        self._starved = 0
        """Requests of late for which the kernel had no room."""

    def serve(self, lines: Iterator[dict[str, Any]]) -> None:
        """Answer each message, until they end."""
        try:
            for message in lines:
                answer = getattr(self, "do_" + message.pop("do"))(**message)
                self._places.check()  # what a lab that is down answered is not worth knowing
                _say(answer)
        finally:
            self._unpin(self._held)

    def do_survey(self) -> dict[str, Any]:
        """What each node has: interfaces, addresses. Pinned entries that somebody left behind are removed."""
        nodes: dict[str, Any] = {}
        for name in self._names:
            routes = self._places[name].routes
            entries = routes.entries()
            left = [entry for entry in entries if entry.protocol == OURS]
            routes.send([removal(entry) for entry in left])
            self._known[name] = {(entry.index, entry.address) for entry in entries if entry.protocol != OURS}
            nodes[name] = {
                "links": {link: (index, mac.hex()) for link, (index, mac) in routes.links().items()},
                "addresses": [(index, address.hex(), prefix) for index, address, prefix in routes.addresses()],
            }
        return {"nodes": nodes}

    def do_scheme(self, scheme: dict[str, Any]) -> dict[str, Any]:
        """Make ready what the test needs."""
        made = self._scheme = Scheme.from_json(scheme)
        self._nonce = bytes.fromhex(made.nonce)
        self._addresses = [bytes.fromhex(endpoint.address) for endpoint in made.endpoints]
        self._subnets = [endpoint.subnet for endpoint in made.endpoints]
        self._shared = set(made.shared)
        self._pins = [
            pin(number, self._addresses[number], bytes.fromhex(endpoint.mac))
            for number, endpoint in enumerate(made.endpoints)
        ]
        versions = {endpoint.version for endpoint in made.endpoints}
        self._outboxes = {version: Outbox(version, self._nonce, self._addresses) for version in versions}
        self._inboxes = {version: Inbox(version, self._nonce, self._addresses) for version in versions}
        self._places.reopen(
            {
                name: tuple(made.by_version[number]) if number < made.hosts else ()
                for number, name in enumerate(made.stations)
            }
        )
        return {"ok": True}

    def do_pin_routers(self) -> dict[str, Any]:
        """Pin what hosts and routers of one subnet need of each other, until the end."""
        wanted: dict[int, list[int]] = {}
        for own, other in self._scheme.routers():
            wanted.setdefault(own, []).append(other)
        self._held = self._pin(wanted)
        return {"pinned": sum(map(len, self._held.values()))}

    def do_unpin_routers(self) -> dict[str, Any]:
        """Remove these."""
        held, self._held = self._held, {}
        self._unpin(held)
        return {"ok": True}

    def do_warm(self) -> dict[str, Any]:
        """Let one host of each subnet hear of all others, so that switches know where everybody is and have nothing to
        flood."""
        first: dict[str, int] = {}
        work: dict[int, list[int]] = {}
        for number, endpoint in enumerate(self._scheme.endpoints):
            if endpoint.station < self._scheme.hosts:
                beacon = first.setdefault(endpoint.subnet, number)
                if beacon != number:
                    work.setdefault(endpoint.station, []).append(beacon)
        self._attempt(work, FIRST_PATIENCE_S, pinned=True)
        return {"ok": True}

    def do_block(self, first: Sequence[int], second: Sequence[int], pinned: bool) -> dict[str, Any]:
        """One attempt for all pairs of one host in the range `first` and one in the range `second`, both ways."""
        one, other = range(*first), range(*second)
        work = {sender: self._scheme.targets(sender, other) for sender in one}
        if one != other:
            work |= {sender: self._scheme.targets(sender, one) for sender in other}
        lost = self._attempt(work, FIRST_PATIENCE_S, pinned=pinned)
        for sender, endpoints in lost.items():
            self._lost.setdefault(sender, []).extend(endpoints)
        return {"first": first, "second": second, "tested": sum(map(len, work.values()))}

    def do_finish(self, pinned: bool) -> dict[str, Any]:
        """Ask again whom no reply came from, each time with more patience; what is unanswered then is the result."""
        self._lost = self._again(self._lost, pinned=pinned)
        starved = self._starved
        if pinned:
            self._lost = self._without_pins(self._lost)
        return {"lost": self._pairs(self._lost), "starved": starved}

    def do_alone(self, pairs: Sequence[tuple[int, int]], pinned: bool) -> dict[str, Any]:
        """Whether any of these pairs of a sender and a receiver answers when it is asked with nothing else of the test
        on the wire."""
        for sender, receiver in pairs:
            work = {sender: self._scheme.targets(sender, range(receiver, receiver + 1))}
            for patience_s in LATER_PATIENCES_S if not pinned else LATER_PATIENCES_S[:-1]:
                if not self._attempt(work, patience_s, pinned=pinned):
                    return {"answered": True}
        return {"answered": False}

    def _without_pins(self, lost: Work) -> dict[int, list[int]]:
        """Ask those pairs again that have an entry of the lab's own on one side. It may be one that the other side's
        question would have put right, and a pinned entry asks none."""
        rest: dict[int, list[int]] = {}
        doubtful: dict[int, list[int]] = {}
        for sender, endpoints in lost.items():
            for other in endpoints:
                own = self._scheme.own[sender].get(self._subnets[other])
                known = own is not None and (self._is_known(own, other) or self._is_known(other, own))
                (doubtful if known else rest).setdefault(sender, []).append(other)
        try:
            for part in _parts(doubtful, _UNPINNED_AT_ONCE):
                for sender, endpoints in self._again(part, pinned=False).items():
                    rest.setdefault(sender, []).extend(endpoints)
                self._forget_pairs(part)
        finally:
            self._forget_pairs(doubtful)
        return rest

    def _is_known(self, own: int, other: int) -> bool:
        """Whether the survey saw an entry for `other` at the interface of the endpoint `own`."""
        endpoint = self._scheme.endpoints[own]
        return (endpoint.index, self._addresses[other]) in self._known[self._scheme.stations[endpoint.station]]

    def do_resolve(self, pairs: Sequence[tuple[int, int]], nodes: Sequence[str] = ()) -> dict[str, Any]:
        """Ask without pinned entries, so that the lab's own ARP or neighbour discovery finds the way; forget what they
        found. `pairs` are senders and endpoints, `nodes` those on the way to other subnets; the answer has the pairs
        without a reply."""
        work: dict[int, list[int]] = {}
        for sender, endpoint in pairs:
            work.setdefault(sender, []).append(endpoint)
        try:
            lost = self._again(work, pinned=False)
        finally:
            self._forget_pairs(work)
            self._forget(nodes)
        failed = [(sender, endpoint) for sender, endpoints in lost.items() for endpoint in endpoints]
        return {"asked": len(pairs), "failed": failed}

    def do_forget(self) -> dict[str, Any]:
        """Remove the neighbour entries that have come since the survey, but for permanent ones, which somebody gave."""
        return {"forgotten": self._forget(self._names)}

    def _forget(self, names: Iterable[str]) -> int:
        count = 0
        for name in names:
            routes = self._places[name].routes
            fresh = [
                entry
                for entry in routes.entries()
                if not entry.permanent and (entry.index, entry.address) not in self._known[name]
            ]
            routes.send([removal(entry) for entry in fresh])
            count += len(fresh)
        return count

    def _pairs(self, work: Work) -> dict[int, list[int]]:
        stations = [endpoint.station for endpoint in self._scheme.endpoints]
        return {sender: [stations[endpoint] for endpoint in endpoints] for sender, endpoints in work.items()}

    def _again(self, work: Work, *, pinned: bool) -> dict[int, list[int]]:
        """More attempts: with growing patience, and after that as long as they bring replies."""
        lost = {sender: list(endpoints) for sender, endpoints in work.items() if endpoints}
        turn = 0
        while lost:
            before = sum(map(len, lost.values()))
            patience = LATER_PATIENCES_S[min(turn, len(LATER_PATIENCES_S) - 1)]
            left: dict[int, list[int]] = {}
            self._starved = 0
            for part in _parts(lost, max(_AGAIN_AT_LEAST, before // _AGAIN_PARTS)):
                if select.select([0], [], [], 0)[0]:
                    raise Ended
                self._places.check()
                for sender, endpoints in self._attempt(part, patience, pinned=pinned).items():
                    left.setdefault(sender, []).extend(endpoints)
            lost = left
            turn += 1
            if turn >= len(LATER_PATIENCES_S) and sum(map(len, lost.values())) == before:
                break
        return lost

    def _attempt(self, work: Work, patience_s: float, *, pinned: bool) -> dict[int, list[int]]:
        """One request for each pair; returns the pairs without a reply."""
        pins = self._pin(self._needed(work)) if pinned else {}
        doubtful = sorted({each for wanted in work.values() for each in wanted} & self._shared) if self._shared else []
        self._requests(doubtful)
        try:
            missing = self._send(work)
            self._wait(missing, patience_s)
        finally:
            self._unpin(pins)
        if doubtful:
            seen, rule = self._requests(doubtful), set(doubtful)
            for sender, wanted in work.items():
                missing.setdefault(sender, set()).update(
                    each for each in wanted if each in rule and (sender, each) not in seen
                )
        return {sender: sorted(endpoints) for sender, endpoints in missing.items() if endpoints}

    def _requests(self, endpoints: Iterable[int]) -> set[tuple[int, int]]:
        """Which requests have arrived where they were meant to, at the stations of `endpoints`, since this was asked
        last."""
        seen: set[tuple[int, int]] = set()
        for number in endpoints:
            endpoint = self._scheme.endpoints[number]
            sock = self._places.witness(self._scheme.stations[endpoint.station], endpoint.version)
            seen.update(
                (sender, other)
                for sender, other in self._inboxes[endpoint.version].requests(sock)
                if self._scheme.endpoints[other].station == endpoint.station
            )
        return seen

    def _send(self, work: Work) -> dict[int, set[int]]:
        endpoints, names = self._scheme.endpoints, self._scheme.stations
        missing: dict[int, set[int]] = {}
        for sender, wanted in work.items():
            if not wanted:
                continue
            missing[sender] = left = set(wanted)
            sockets = self._places[names[sender]].raw
            for version, sock in sockets.items():
                mine = wanted if len(sockets) == 1 else [each for each in wanted if endpoints[each].version == version]
                outbox, inbox = self._outboxes[version], self._inboxes[version]
                outbox.address_to(sender)
                for start in range(0, len(mine), BATCH):
                    refused = outbox.send(sock, mine[start : start + BATCH])
                    self._starved += sum(number in _NO_ROOM for number in refused.values())
                    left.difference_update(inbox.receive(sock, sender))
        return missing

    def _wait(self, missing: Mapping[int, set[int]], patience_s: float) -> None:
        """Take replies until none is missing, or none has come for `patience_s`."""
        names = self._scheme.stations
        waiting: dict[int, tuple[int, int, socket.socket]] = {}
        poll = select.poll()
        for sender, left in missing.items():
            if left:
                for version, sock in self._places[names[sender]].raw.items():
                    waiting[sock.fileno()] = sender, version, sock
                    poll.register(sock, select.POLLIN)
        deadline = time.monotonic() + patience_s
        open_pairs = sum(map(len, missing.values()))
        patient = True
        while open_pairs:
            room = deadline - time.monotonic()
            if room <= 0:
                if not patient:
                    break
                patient = False
                softnet.settle(_SETTLE_S)  # what no processor has looked at yet may be a reply
            for descriptor, _ in poll.poll(max(0.0, room) * 1000):
                sender, version, sock = waiting[descriptor]
                left = missing[sender]
                before = len(left)
                left.difference_update(self._inboxes[version].receive(sock, sender))
                if len(left) < before:
                    open_pairs -= before - len(left)
                    deadline, patient = time.monotonic() + patience_s, True
                if not left:
                    poll.unregister(descriptor)

    def _needed(self, work: Work) -> dict[int, set[int]]:
        """What the pairs of `work` that are neighbours must have of each other."""
        owns, subnets = self._scheme.own, self._subnets
        needed: dict[int, set[int]] = {}
        for sender, wanted in work.items():
            near = owns[sender]
            for other in wanted:
                own = near.get(subnets[other])
                if own is not None:
                    needed.setdefault(own, set()).add(other)
                    needed.setdefault(other, set()).add(own)
        return needed

    def _pin(self, wanted: Pins) -> dict[int, list[int]]:
        """Make entries, and return those that were made: where the lab has one of its own, that one stays."""
        made: dict[int, list[int]] = {}
        try:
            for own, others in wanted.items():
                made[own] = list(others)
                refused = self._tell(own, [self._pins[other].add for other in made[own]])
                if refused:
                    made[own] = [other for other in made[own] if other not in refused]
        except BaseException:
            self._unpin(made)
            raise
        return made

    def _unpin(self, pins: Pins) -> None:
        for own, others in pins.items():
            with contextlib.suppress(OSError):
                self._tell(own, [self._pins[other].remove for other in others])

    def _tell(self, own: int, parts: Iterable[tuple[bytes, bytes]]) -> dict[int, int]:
        """Send messages about neighbours at the interface of the endpoint `own`; returns what was refused."""
        endpoint = self._scheme.endpoints[own]
        index = endpoint.index.to_bytes(4, sys.byteorder)
        messages = [head + index + tail for head, tail in parts]
        return self._places[self._scheme.stations[endpoint.station]].routes.send(messages)

    def _forget_pairs(self, work: Work) -> None:
        """Remove the entries that the pairs of `work` have of each other and that were not there at the survey."""
        for own, others in self._needed(work).items():
            self._tell(own, [self._pins[other].remove for other in others if not self._is_known(own, other)])


def _parts(work: Work, size: int) -> Iterator[dict[int, list[int]]]:
    """`work` in parts of at most `size` pairs."""
    part: dict[int, list[int]] = {}
    room = size
    for sender, endpoints in work.items():
        start = 0
        while start < len(endpoints):
            part[sender] = list(endpoints[start : start + room])
            start += len(part[sender])
            room -= len(part[sender])
            if not room:
                yield part
                part, room = {}, size
    if part:
        yield part


def _say(message: dict[str, Any]) -> None:
    octets = json.dumps(message).encode() + b"\n"
    try:
        while octets:
            octets = octets[os.write(1, octets) :]
    except BrokenPipeError:
        raise Ended from None


def _lines() -> Iterator[dict[str, Any]]:
    """The messages on standard input, read without a buffer that would hide whether more is there."""
    buffer = b""
    while data := os.read(0, 1 << 20):
        buffer += data
        *lines, buffer = buffer.split(b"\n")
        yield from (json.loads(line) for line in lines)


def _end(*_: object) -> None:
    raise Ended


def main(arguments: Sequence[str]) -> int:
    """Enter the lab and serve; returns the exit status."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)
    gc.disable()  # nothing here makes cycles
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    lines = _lines()
    try:
        first = next(lines, None)
        if first is None:
            return 1
        names = first["nodes"]
        with Control(Path(arguments[0])) as control:
            places = Places(control, names)
            _say({"ready": True})
            Worker(places, names).serve(lines)
    except Ended:
        return 1
    except (WirelabError, OSError) as error:
        with contextlib.suppress(Ended):
            _say({"error": getattr(error, "message", None) or str(error)})
        return 1
    return 0
