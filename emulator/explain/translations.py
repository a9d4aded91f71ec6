"""What a router's connection tracking says of a translation: the witness beside the captures.

Reads what `conntrack -L` prints (before and after) and `conntrack -E` (events meanwhile): of each connection the flow
as it began, and as its answers are expected (conntrack(8)).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from emulator.verify.paths import Flow

_FIELD = re.compile(r"(src|dst|sport|dport|type|id)=(\S+)")
_PROTOCOL = re.compile(r"\b(tcp|udp|icmp|icmpv6)\s+\d+")
_ECHO_REQUESTS = frozenset({"8", "128"})


@dataclass(frozen=True)
class Entry:
    """A tracked connection: the flow as it began, and as the answers to it are expected."""

    original: Flow
    reply: Flow


def entries(text: str) -> Iterator[Entry]:
    """The entries in the output of conntrack; ICMP only for echo, whose id stands for the asker's port."""
    for line in text.splitlines():
        protocol = _PROTOCOL.search(line)
        if protocol is None:
            continue
        halves: list[dict[str, str]] = []
        for name, value in _FIELD.findall(line[protocol.end() :]):
            if name == "src":
                halves.append({})
            if halves:
                halves[-1][name] = value
        if len(halves) == 2:
            flows = [_flow(protocol[1], half) for half in halves]
            if flows[0] is not None and flows[1] is not None:
                yield Entry(flows[0], flows[1])


def _flow(protocol: str, half: Mapping[str, str]) -> Flow | None:
    try:
        source, target = half["src"], half["dst"]
        if protocol in ("tcp", "udp"):
            return Flow(protocol, source, int(half["sport"]), target, int(half["dport"]))
        query = int(half["id"])
        ports = (query, 0) if half["type"] in _ECHO_REQUESTS else (0, query)
        return Flow(protocol, source, ports[0], target, ports[1])
    except (KeyError, ValueError):
        return None


def entry_text(entry: Entry) -> str:
    """`tcp 192.168.1.2:4000 → 192.0.2.80:80, answers tcp 192.0.2.80:80 → 203.0.113.2:4000`; of an echo with its id."""
    texts = []
    for flow in (entry.original, entry.reply):
        query = max(flow.source_port, flow.target_port)
        texts.append(f"{flow}" + (f" id {query}" if flow.protocol.startswith("icmp") else ""))
    return ", answers ".join(texts)


class Translations:
    """The connection tracking of all routers, to ask whether a rewrite that was seen stands in it."""

    def __init__(self, texts: Mapping[str, Iterable[str]]) -> None:
        """`texts`: node → what conntrack printed there."""
        self._known: dict[str, set[Entry]] = {
            node: {entry for text in printed for entry in entries(text)} for node, printed in texts.items()
        }

    def asked(self, node: str) -> bool:
        """Whether the connection tracking of `node` was read."""
        return node in self._known

    def entry(self, node: str, before: Flow, after: Flow) -> Entry | None:
        """The entry of `node` by which `before` becomes `after`, on the way there or back."""
        known = self._known.get(node, ())
        for wanted in (Entry(before, after.reversed), Entry(after.reversed, before)):
            if wanted in known:
                return wanted
        return None
