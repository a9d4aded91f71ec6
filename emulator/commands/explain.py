"""`wirelab explain`: what happened on the wire, told from a capture."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from emulator.errors import UsageError, one_line

if TYPE_CHECKING:
    from emulator.flows.connection import Row

_HEADINGS = ("time", "protocol", "originator", "responder", "state", "packets", "octets", "duration", "history")
_RIGHT = frozenset(("time", "packets", "octets", "duration"))


def explain(options: argparse.Namespace) -> int:
    """State the connections of a capture file."""
    if options.pcap is None:
        raise UsageError("nothing to explain", hint="wirelab explain --pcap FILE")
    return _file(options)


def _file(options: argparse.Namespace) -> int:
    from emulator.capture.pcapng import read
    from emulator.flows.table import connections

    capture = read(options.pcap)
    links = [interface.link_type for interface in capture.interfaces]
    rows = connections([(p.time_ns, links[p.interface], p.data, p.length) for p in capture.packets])
    if options.json:
        answer = {
            "file": options.pcap,
            "packets": len(capture.packets),
            "truncated": capture.truncated,
            "connections": [row.to_json() for row in rows],
        }
        print(json.dumps(answer, indent=2))
        return 0
    sys.stdout.write(_table(rows))
    count = "1 connection" if len(rows) == 1 else f"{len(rows)} connections"
    packets = "1 packet" if len(capture.packets) == 1 else f"{len(capture.packets)} packets"
    print(f"{count} in {packets}")
    if capture.truncated:
        print(f"wirelab: {one_line(options.pcap)} was read up to {one_line(capture.truncated)}", file=sys.stderr)
    return 0


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
