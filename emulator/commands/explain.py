"""`wirelab explain`: what happened on the wire, told from a capture."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from emulator.errors import UsageError

if TYPE_CHECKING:
    from emulator.flows.connection import Row

_HEADINGS = ("time", "protocol", "originator", "responder", "state", "packets", "octets", "duration", "history")
_RIGHT = frozenset(("time", "packets", "octets", "duration"))


def explain(options: argparse.Namespace) -> int:
    """Tell what a command did on the wire, or what a capture file holds."""
    from emulator.commands import story
    from emulator.commands.writing import check_writable

    check_writable(options.html)
    if options.pcap is not None:
        if options.lab is not None:
            raise UsageError("a lab, or a capture file, not both", hint="wirelab explain --pcap FILE")
        return story.of_file(options, _summary)
    if options.lab is None or options.node is None or not options.argv:
        raise UsageError(
            "nothing to explain", hint="wirelab explain LAB NODE -- COMMAND…, or wirelab explain --pcap FILE"
        )
    return story.of_command(options)


def _summary(rows: Sequence[Row], packets: int) -> str:
    """The connections, and how many there are."""
    count = "1 connection" if len(rows) == 1 else f"{len(rows)} connections"
    return _table(rows) + f"{count} in {'1 packet' if packets == 1 else f'{packets} packets'}\n"


def _table(rows: Sequence[Row]) -> str:
    """A line for each connection, times counted from the first."""
    if not rows:
        return ""
    lines = [_HEADINGS, *(_cells(row, rows[0].start_ns) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(_HEADINGS))]
    text = []
    for line in lines:
        cells = zip(_HEADINGS, line, widths, strict=True)
        padded = [cell.rjust(width) if name in _RIGHT else cell.ljust(width) for name, cell, width in cells]
        text.append("  ".join(padded).rstrip() + "\n")
    return "".join(text)


def _cells(row: Row, start_ns: int) -> tuple[str, ...]:
    octets = "-" if row.orig_bytes is None else f"{row.orig_bytes} / {row.resp_bytes}"
    return (
        f"{(row.start_ns - start_ns) / 1e9:.6f}",
        f"ip {row.ip_protocol}" if row.protocol == "unknown_transport" else row.protocol,
        _end(row, row.orig_address, row.orig_port),
        _end(row, row.resp_address, row.resp_port),
        row.state,
        f"{row.orig_packets} / {row.resp_packets}",
        octets,
        "-" if row.duration_ns is None else f"{row.duration_ns / 1e9:.6f}",
        row.history or "-",
    )


def _end(row: Row, address: str, port: int) -> str:
    """Address and port; of ICMP the type or code, of other protocols nothing, stands in the place of the port."""
    if row.protocol == "unknown_transport":
        return address
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
