"""Our fields against Wireshark's: the same names, types and values, and filters that choose the same frames."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from emulator.capture.decode import decode
from emulator.capture.frame import Frame, Value
from emulator.capture.pcapng import Writer, read
from emulator.filters import KNOWN_FIELDS, KNOWN_PROTOCOLS, FieldType, parse

pytestmark = pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark is not installed")

TYPES = {
    FieldType.NUMBER: "FT_UINT",
    FieldType.DECIMAL: "FT_DOUBLE",
    FieldType.TIME: "FT_ABSOLUTE_TIME",
    FieldType.FLAG: "FT_BOOLEAN",
    FieldType.ADDRESS4: "FT_IPv4",
    FieldType.ADDRESS6: "FT_IPv6",
    FieldType.MAC: "FT_ETHER",
    FieldType.TEXT: "FT_STRING",
    FieldType.OCTETS: "FT_BYTES",
}
PREFERENCES = (
    "tcp.desegment_tcp_streams:false", "tcp.check_checksum:true", "udp.check_checksum:true", "ip.check_checksum:true",
    "ip.defragment:false", "ipv6.defragment:false",
)  # fmt: skip
COMPARED = [name for name in KNOWN_FIELDS if not name.startswith(("wirelab.", "_ws.", "frame.", "http.file"))]


def tshark(*arguments: str) -> str:
    return subprocess.run(["tshark", *arguments], capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="module")
def capture(samples: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All samples and all real frames in one file; but to Wireshark a numbered LLC frame may hold a BPDU."""
    path = tmp_path_factory.mktemp("capture") / "all.pcapng"
    frames = [octets for name, octets in samples.SAMPLES.items() if name != "numbered"]
    frames += [found.data for found in samples.real()]
    with path.open("wb") as stream:
        writer = Writer(stream)
        interface = writer.interface("pc1:eth0")
        for number, octets in enumerate(frames):
            writer.packet(interface, 1_700_000_000_000_000_000 + number, octets)
        writer.flush()
    return path


@pytest.fixture(scope="module")
def frames(capture: Path) -> tuple[Frame, ...]:
    """The same, decoded by us."""
    found = read(capture)
    return decode(found.packets, found.interfaces)


def test_names_and_types_of_fields() -> None:
    theirs = {}
    for line in tshark("-G", "fields").splitlines():
        columns = line.split("\t")
        theirs[columns[2]] = columns[3] if columns[0] == "F" else "protocol"
    wrong = {
        name: theirs.get(name)
        for name, kind in KNOWN_FIELDS.items()
        if not name.startswith("wirelab.") and not theirs.get(name, "").startswith(TYPES[kind])
    }
    # Link-layer addresses of any kind are octets to Wireshark; the body of HTTP was text before Wireshark 4.2.
    links = {f"icmpv6.opt.{name}" for name in ("linkaddr", "src_linkaddr", "target_linkaddr")}
    assert wrong.keys() <= links | {"_ws.malformed", "http.file_data"}
    assert {theirs.get(name) for name in KNOWN_PROTOCOLS - {"malformed"}} == {"protocol"}


def as_ours(kind: FieldType, text: str) -> Value:
    """A value as tshark prints it, as we have it."""
    if kind is FieldType.NUMBER:
        return int(text, 0)
    if kind is FieldType.DECIMAL:
        return float(text)
    if kind is FieldType.FLAG:
        return text == "1"
    if kind is FieldType.OCTETS:
        return bytes.fromhex(text)
    if kind is FieldType.TIME:
        return int(datetime.strptime(text, "%b %d, %Y %H:%M:%S.000000000 UTC").replace(tzinfo=UTC).timestamp())
    return text


def expected(frame: Frame, name: str, theirs: Sequence[Value]) -> Sequence[Value]:
    """What we should have where Wireshark has `theirs`; the differences that are meant."""
    ours = frame.fields.get(name, ())
    if any(field.startswith(("wirelab.icmp.", "wirelab.icmpv6.")) for field in frame.fields) or (
        frame.number_of("icmpv6.type") == 137
    ):
        return theirs[: len(ours)]  # A quoted packet has names of its own.
    if name == "ip.version" and "ip" not in frame.layers:
        return ()  # Wireshark has it in IPv6 headers too.
    if name.endswith("checksum.status") and ours == (2,) and frame.text("eth.src") == "00:00:00:00:00:00":
        return ours  # Wireshark calls a checksum that was left unfinished bad.
    if name == "dns.resp.type" and {47, 50} & set(ours):
        return ours  # Wireshark adds the types of the bit map.
    if name == "dns.resp.name" and 33 in frame.fields.get("dns.resp.type", ()):
        return ours  # Wireshark has another name for the owner of an SRV record.
    return theirs


def test_values_of_fields(capture: Path, frames: tuple[Frame, ...]) -> None:
    names = [*COMPARED, "tls.record.opaque_type"]
    arguments = [word for preference in PREFERENCES for word in ("-o", preference)]
    arguments += ["-T", "fields", "-E", "separator=\x1e", "-E", "aggregator=\x1f"]
    arguments += [word for name in names for word in ("-e", name)]
    lines = tshark("-n", "-r", str(capture), *arguments).split("\n")[:-1]
    assert len(lines) == len(frames)
    wrong, compared = [], set()
    for frame, line in zip(frames, lines, strict=True):
        cells = dict(zip(names, line.split("\x1e"), strict=True))
        types = [text for text in (cells["tls.record.content_type"], cells.pop("tls.record.opaque_type")) if text]
        for name, cell in cells.items():
            kind = KNOWN_FIELDS[name]
            theirs = tuple(as_ours(kind, text) for text in cell.split("\x1f") if cell)
            ours = frame.fields.get(name, ())
            if name == "tls.record.content_type" and len(types) > 0:
                # Wireshark knows from the ServerHello which types are not those of the content.
                ours = tuple(sorted(ours))
                theirs = tuple(sorted(int(number) for text in types for number in text.split("\x1f")))
            if tuple(expected(frame, name, theirs)) != ours:
                wrong.append((frame.number, frame.layers, name, ours, theirs))
            elif ours:
                compared.add(name)
    assert not wrong, "\n".join(map(str, wrong))
    assert {name for name in COMPARED if name.startswith(("stp.", "tls.", "icmpv6.", "dns.", "llc."))} <= compared


@pytest.mark.parametrize(
    "text",
    [
        "stp.root.prio == 4096 && stp.msg_age < 0.5",
        "stp.hello in {1..1.5, 2}",
        'tls.handshake.extensions_server_name == "new.qq.com" || tls.alert_message.desc == 48',
        "tls.app_data && !tls.handshake.type",
        'dns.rrsig.signature_expiration > "2029-12-31 23:59:59Z" && dns.rrsig.type_covered == 1',
        "icmpv6.opt.linkaddr == 02:57:4c:00:01:00",
        "icmpv6.opt.prefix == fd00::/8 or icmpv6.opt.nonce",
        "tcp.options.sack_perm && tcp.options.timestamp.tsval > 0",
        "arp.isprobe || dns.flags.authenticated == 1 || dns.resp.z.do == 1",
    ],
)
def test_filters(capture: Path, frames: tuple[Frame, ...], text: str) -> None:
    preferences = [word for preference in PREFERENCES for word in ("-o", preference)]
    theirs = tshark("-n", "-r", str(capture), *preferences, "-Y", text, "-T", "fields", "-e", "frame.number")
    wanted = parse(text)
    assert [frame.number for frame in frames if wanted.matches_frame(frame)] == [int(line) for line in theirs.split()]
