"""The pairs test of a running lab: it plans, has the workers ask, and puts their answers together.

Sockets of a million pairs and the neighbour table of the kernel are what it has to mind:

- Requests go through the sender's own routes and packet filter, by raw sockets, and replies come through the packet
  filter of the sender. Nothing of a node is passed by.
- The neighbour table has room for 1,024 entries on many machines (`gc_thresh3`), for all namespaces together. Where a
  lab needs few, its own ARP makes them, and those that are new are removed at the end. Where it needs more, entries are
  pinned, a block of pairs at a time: permanent ones are not counted against that limit. Entries that the lab has
  already are left as they are, and used. Afterwards hosts and routers have to find each other without pins
  (`emulator.reach.resolution`, `emulator.reach.routed`).

A pair that is lost while that table is full, by whatever labs, is asked again, and is in doubt when it stays full.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import resource
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from ipaddress import IPv4Interface, IPv6Interface, ip_address
from pathlib import Path
from typing import Any, Final

from emulator.errors import CommandFailed, MachineError, UsageError
from emulator.events import Bus, Event
from emulator.lab.resolved import AnyInterface, ResolvedLab
from emulator.reach import routed, softnet
from emulator.reach.capacity import BACKLOG, backlog, room, setting
from emulator.reach.echo import NONCE_OCTETS
from emulator.reach.promise import Ways, promised_rows
from emulator.reach.resolution import Hosts, Pair, some, unresolved
from emulator.reach.scheme import Endpoint, Scheme, blocks
from emulator.reach.workers import Workers
from emulator.verify.matrix import ANSWERED, SILENT, UNTESTED, Matrix

NATURAL_MOST: Final = 256
"""Neighbour entries that the lab's own ARP may make for a test: a quarter of the usual limit of the whole machine."""

_TILE_MOST: Final = 50
"""Hosts on a side of a block. What the kernel touches of so many namespaces stays in a processor's cache: 32 to 64 cost
a fifth less time a pair than 125."""
_WORKERS_MOST: Final = 4
_PAIRS_A_WORKER: Final = 2_000
_AT_ONCE: Final = 64
"""Pairs that a worker asks at the same time without pins: each makes two entries."""

_FLOOD_FRAMES: Final = 2_000
"""Frames that questions to all may be at the same time, one for each host of the subnet. A processor keeps 1,000 that
nobody has looked at yet (net.core.netdev_max_backlog), and drops the rest."""

_FEW: Final = 16
"""So many pairs that nobody has answered are asked once more, on a quiet wire."""

_QUIET_FRAMES: Final = _FLOOD_FRAMES // 4
"""Frames that their questions to all may be at the same time: half of what one processor keeps."""

_ALONE: Final = 4
"""So many of the pairs that are lost, where the machine has lost frames, are asked with nothing else on the wire."""

_FULL_MOST: Final = 3
"""How often pairs are asked that are lost while the machine has no room for their entries or requests."""

_NO_MEMORY: Final = "the machine had no memory for their requests"

_DESCRIPTORS_A_NODE: Final = 4
_SPARE_DESCRIPTORS: Final = 64


def reach(lab: ResolvedLab, directory: Path, *, version: int | None = None, bus: Bus | None = None) -> Matrix:
    """Test all ordered pairs of hosts of the running lab in `directory`.

    Args:
        version: 4 or 6 to test by this IP version alone; default: IPv4 where both have it, else IPv6.

    Raises:
        UsageError: the lab has fewer than two hosts, or its pairs are being tested already.
        MachineError: a process may not open as many files as it takes.
        CommandFailed: the lab ended meanwhile, or a node's sockets or tables could not be used.
    """
    began = time.monotonic()
    hosts = [node.name for node in lab.nodes.values() if node.kind == "host"]
    if len(hosts) < 2:
        raise UsageError(f"the lab {lab.name} has no pair of hosts to test")
    routers = [node.name for node in lab.nodes.values() if node.kind == "router"]
    names = [*hosts, *routers]
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most < (wanted := len(names) * _DESCRIPTORS_A_NODE + _SPARE_DESCRIPTORS):
        raise MachineError(
            f"to test the pairs of {len(hosts):,} hosts a process must open {wanted:,} files; it may open {most:,}",
            hint="raise the hard limit: ulimit -Hn, or LimitNOFILE= of the service that you are in",
        )
    possible = len(hosts) * (len(hosts) - 1)
    count = max(1, min(len(os.sched_getaffinity(0)), _WORKERS_MOST, possible // _PAIRS_A_WORKER))
    bus = bus or Bus()
    switches = [node.name for node in lab.nodes.values() if node.kind == "switch"]
    with _alone(directory):
        bus.emit(Event("pairs", f"looking at {len(names):,} nodes"))
        with Workers(directory, [*names, *switches], count) as workers:
            survey = workers.all("survey")[0]["nodes"]
            leases = _leases(lab, survey)
            scheme = scheme_of(lab, names, len(hosts), survey, leases, version)
            workers.all("scheme", scheme=scheme.to_json())
            ways = Ways(lab, leases)
            promised = promised_rows(lab, scheme, ways)
            test = _Test(workers, scheme, ways, promised, bus)
            test.run()
    rows = _rows(scheme, test.asked, test.lost, promised)
    seconds = round(time.monotonic() - began, 3)
    return Matrix(lab.name, tuple(hosts), rows, promised, seconds, test.natural, test.doubt)


@contextlib.contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """Two tests of one lab at the same time would remove each other's neighbour entries."""
    descriptor = os.open(directory / "pairs", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UsageError(f"the pairs of {directory.name} are being tested already", hint="wait for its end") from None
    else:
        yield
    finally:
        os.close(descriptor)


def _leases(lab: ResolvedLab, survey: Mapping[str, Any]) -> dict[tuple[str, str], list[AnyInterface]]:
    """The addresses that interfaces have got by DHCP or router advertisements."""
    found: dict[tuple[str, str], list[AnyInterface]] = {}
    for interface in lab.interfaces():
        seen = survey.get(interface.node)
        if seen is None or not (interface.dhcp or interface.slaac):
            continue
        index = seen["links"].get(interface.name, (0, ""))[0]
        for place, address, prefix in seen["addresses"]:
            octets = bytes.fromhex(address)
            made = IPv4Interface((octets, prefix)) if len(octets) == 4 else IPv6Interface((octets, prefix))
            wanted = interface.dhcp if made.version == 4 else interface.slaac
            if place == index and wanted and made not in interface.addresses:
                found.setdefault((interface.node, interface.name), []).append(made)
    return found


def scheme_of(
    lab: ResolvedLab,
    names: Sequence[str],
    hosts: int,
    survey: Mapping[str, Any],
    leases: Mapping[tuple[str, str], Sequence[AnyInterface]],
    version: int | None,
) -> Scheme:
    """Who asks whom: the stations `names`, the first `hosts` of which are hosts, as a worker has surveyed them."""
    endpoints = []
    for number, name in enumerate(names):
        for interface in lab.nodes[name].interfaces:
            if interface.is_loopback:
                continue
            index, mac = survey[name]["links"].get(interface.name, (0, interface.mac.replace(":", "")))
            for address in (*interface.addresses, *leases.get((name, interface.name), ())):
                if version in (None, address.version):
                    subnet = f"{interface.segment}|{address.network}"
                    endpoints.append(Endpoint(number, subnet, address.version, address.ip.packed.hex(), mac, index))
    where: dict[str, list[str]] = {}
    for name, seen in survey.items():
        for _, address, _ in seen["addresses"]:
            where.setdefault(address, []).append(name)
    shared = (
        number for number, endpoint in enumerate(endpoints) if where.get(endpoint.address) != [names[endpoint.station]]
    )
    return Scheme(secrets.token_hex(NONCE_OCTETS), tuple(names), hosts, tuple(endpoints), tuple(shared))


class _Test:
    """One test of all pairs.

    Attributes:
        asked: a row for each sender with `1` for each receiver that it asked.
        lost: sender → receivers that do not answer.
        natural: whether the lab's own ARP was enough for all of it.
        doubt: why the machine and not the lab may have lost pairs, or nothing.
    """

    def __init__(self, workers: Workers, scheme: Scheme, ways: Ways, promised: Sequence[bytes], bus: Bus) -> None:
        self._workers = workers
        self._scheme = scheme
        self._ways = ways
        self._promised = promised
        self._bus = bus
        self._resolved = 0
        self.natural = entries_needed(scheme) <= NATURAL_MOST
        self.asked = [bytearray([UNTESTED]) * scheme.hosts for _ in range(scheme.hosts)]
        self.lost: dict[int, set[int]] = {}
        self.doubt = ""

    def run(self) -> None:
        """Ask all pairs."""
        hosts, workers, pinned = self._scheme.hosts, self._workers, not self.natural
        size = hosts if self.natural else max(8, min(_TILE_MOST, -(-hosts // 4)))
        total, done = hosts * (hosts - 1), 0
        self._bus.emit(Event("pairs", f"0 of {total:,} pairs asked"))
        if pinned:
            workers.ask(0, "pin_routers")
            workers.ask(0, "warm")
        tasks = [
            {"first": (one.start, one.stop), "second": (other.start, other.stop), "pinned": pinned}
            for one, other in blocks(hosts, size)
        ]
        for answer in workers.share("block", tasks):
            self._note(answer)
            done += answer["tested"]
            self._bus.emit(Event("pairs", f"{done:,} of {total:,} pairs asked", done, total))
        self._finish(pinned=pinned)
        if self.natural:
            workers.ask(0, "forget")
            return
        certain = not self.doubt and bool(self._promised_lost())
        workers.ask(0, "unpin_routers")
        for found in (unresolved(self._scheme, self.lost, self._near), self._routed()):
            for sender, receivers in found.items():
                self.lost.setdefault(sender, set()).update(receivers)
        if certain:
            self.doubt = ""

    def _note(self, answer: Mapping[str, Any]) -> None:
        """That a worker has asked the pairs of a block; as many as it should."""
        first, second = range(*answer["first"]), range(*answer["second"])
        wanted = 0
        for senders, receivers in ((first, second), (second, first)) if first != second else ((first, second),):
            for sender in senders:
                self.asked[sender][receivers.start : receivers.stop] = bytes([ANSWERED]) * len(receivers)
                wanted += len(self._scheme.targets(sender, receivers))
        if answer["tested"] != wanted:
            raise CommandFailed(f"the pairs cannot be tested: {answer['tested']:,} were asked instead of {wanted:,}")

    def _promised_lost(self) -> list[tuple[int, int]]:
        """The senders and receivers that do not answer though the lab promises it."""
        return [(a, b) for a, receivers in self.lost.items() for b in receivers if self._promised[a][b] == ANSWERED]

    def _finish(self, *, pinned: bool) -> None:
        """Ask those again that did not answer, and once more while the machine had no room for it."""
        for _ in range(_FULL_MOST):
            self._bus.emit(Event("pairs", "asking those again that did not answer"))
            full, dropped = tables_full(), softnet.dropped()
            answers = self._workers.all("finish", pinned=pinned)
            self.lost = {}
            for answer in answers:
                for sender, receivers in answer["lost"].items():
                    self.lost.setdefault(int(sender), set()).update(receivers)
            if not self.lost:
                return
            if any(answer["starved"] for answer in answers):
                doubt = _NO_MEMORY
            elif not pinned and tables_full() != full:
                doubt = _full_table()
            elif softnet.dropped() != dropped and self._answers_alone(self._promised_lost(), pinned=pinned):
                doubt = _dropped()
            else:
                return
        self.doubt = doubt

    def _answers_alone(self, pairs: Sequence[Hosts], *, pinned: bool) -> bool:
        """Whether one of a few of `pairs`, which have not answered, does so with nothing else on the wire: then it is
        the machine that has lost it. In a lab that is broken floods of what nobody takes make it lose frames too."""
        return bool(self._workers.ask(0, "alone", pairs=some(pairs, _ALONE), pinned=pinned)["answered"])

    def _near(self, pairs: Sequence[Pair]) -> set[Pair]:
        size = max(1, min(_AT_ONCE, _FLOOD_FRAMES // largest_subnet(self._scheme)))
        parts = [{"pairs": group} for group in _slices(pairs, size)]
        return self._resolve(parts, range(len(self._workers)))

    def _routed(self) -> dict[int, set[int]]:
        stations, endpoints = self._scheme.stations, self._scheme.endpoints

        def steps(sender: int, receiver: int) -> Sequence[routed.Step]:
            target = self._scheme.target(sender, receiver)
            if target is None:
                return ()
            address = ip_address(bytes.fromhex(endpoints[target].address))
            return self._ways.steps(stations[sender], stations[receiver], address)

        return routed.unrouted(self._scheme, self.lost, steps, self._far)

    def _far(self, pairs: Sequence[tuple[Pair, Sequence[routed.Step]]]) -> set[Pair]:
        parts = [
            {
                "pairs": [pair for pair, _ in part],
                "nodes": sorted({node for _, steps in part for step in steps for node in step}),
            }
            for part in routed.parts(pairs)
        ]
        return self._resolve(parts, (0,))  # one at a time: they share routers, and clear their tables

    def _resolve(self, parts: Sequence[dict[str, Any]], workers: Sequence[int]) -> set[Pair]:
        """Ask without pinned entries; of pairs without an answer few once more on a quiet wire, since a question to all
        may have been lost among many others; and all again while the machine has lost frames."""
        quiet = False
        for _ in range(1 + _FULL_MOST):
            dropped = softnet.dropped()
            failed = self._asked(parts, workers)
            if not failed or self.doubt:  # once in doubt, no answer is worth waiting for
                return failed
            parts = _only(parts, failed)
            if len(failed) <= _FEW and not quiet:
                quiet, parts, workers = True, self._quiet(parts), (0,)
            elif softnet.dropped() == dropped or not (quiet or self._some_answer(parts)):
                return failed
        self.doubt = _dropped()
        return failed

    def _quiet(self, parts: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """The same pairs, so few at a time that no processor has to drop a question; where it does not matter which
        nodes are on the way, together."""
        size = max(1, _QUIET_FRAMES // largest_subnet(self._scheme))
        rest = [part for part in parts if "nodes" in part]
        if near := [pair for part in parts if "nodes" not in part for pair in part["pairs"]]:
            rest.append({"pairs": near})
        return [{**part, "pairs": group} for part in rest for group in _slices(part["pairs"], size)]

    def _some_answer(self, parts: Sequence[dict[str, Any]]) -> bool:
        """As `_answers_alone`, without pinned entries."""
        alone = some([{**part, "pairs": [pair]} for part in parts for pair in part["pairs"]], _ALONE)
        return len(self._asked(alone, (0,))) < len(alone)

    def _asked(self, parts: Sequence[dict[str, Any]], workers: Sequence[int]) -> set[Pair]:
        failed: set[Pair] = set()
        for turn in range(_FULL_MOST):
            full, failed = tables_full(), set()
            for answer in self._workers.share("resolve", parts, workers):
                failed.update(tuple(pair) for pair in answer["failed"])
                self._resolved += answer["asked"]
                said = f"{self._resolved:,} pairs asked by ARP and neighbour discovery of the lab's own"
                self._bus.emit(Event("pairs", said))
            if not failed or tables_full() == full:
                break
            if turn == _FULL_MOST - 1:
                self.doubt = _full_table()
            parts = _only(parts, failed)
        return failed


def _slices(pairs: Sequence[Pair], size: int) -> Iterator[Sequence[Pair]]:
    return (pairs[start : start + size] for start in range(0, len(pairs), size))


def _only(parts: Sequence[dict[str, Any]], pairs: set[Pair]) -> list[dict[str, Any]]:
    """`parts` with no other than `pairs`."""
    rest = [{**part, "pairs": [pair for pair in part["pairs"] if tuple(pair) in pairs]} for part in parts]
    return [part for part in rest if part["pairs"]]


def _dropped() -> str:
    limit = backlog()
    known = f" ({BACKLOG}={limit})" if limit is not None else ""
    return f"the machine lost frames, since more waited on a processor than it keeps{known}, of all labs together"


def tables_full() -> int:
    """How often the kernel has found no room for a neighbour entry, for whatever lab (`table_fulls` in
    linux/neighbour.h); 0 where it does not say."""
    count = 0
    for name in ("arp_cache", "ndisc_cache"):
        with contextlib.suppress(OSError, ValueError):
            heads, *lines = Path("/proc/net/stat", name).read_text(encoding="ascii").splitlines()
            place = heads.split().index("table_fulls")
            count += sum(int(line.split()[place], 16) for line in lines)
    return count


def _full_table() -> str:
    limits = {setting(version): room(version) for version in (4, 6)}
    known = ", ".join(f"{name}={limit}" for name, limit in limits.items() if limit is not None)
    return f"the machine's neighbour table was full{f' ({known})' if known else ''}, of all labs together"


def largest_subnet(scheme: Scheme) -> int:
    """How many endpoints the subnet has that has most."""
    members: dict[str, int] = {}
    for endpoint in scheme.endpoints:
        members[endpoint.subnet] = members.get(endpoint.subnet, 0) + 1
    return max(members.values(), default=1)


def entries_needed(scheme: Scheme) -> int:
    """Neighbour entries that exist when every host has talked with every other."""
    members: dict[str, int] = {}
    for station in range(scheme.hosts):
        for subnet in scheme.own[station]:
            members[subnet] = members.get(subnet, 0) + 1
    return sum(count * (count - 1) for count in members.values()) + sum(1 for _ in scheme.routers())


def _rows(
    scheme: Scheme, asked: Sequence[bytearray], lost: Mapping[int, set[int]], promised: Sequence[bytes]
) -> tuple[bytes, ...]:
    plain = all(len(scheme.by_version[host]) == 1 for host in range(scheme.hosts))
    versions = {version for host in range(scheme.hosts) for version in scheme.by_version[host]}
    rows = []
    for sender in range(scheme.hosts):
        row = bytearray(asked[sender])
        for receiver in lost.get(sender, ()):
            row[receiver] = SILENT
        if not plain or len(versions) > 1:
            for receiver in range(scheme.hosts):
                if scheme.target(sender, receiver) is None:
                    row[receiver] = SILENT if promised[sender][receiver] == ANSWERED else UNTESTED
        row[sender] = UNTESTED
        rows.append(bytes(row))
    return tuple(rows)
