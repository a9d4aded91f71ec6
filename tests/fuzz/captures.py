"""Capture files as no program writes them, from their octets to the story that `wirelab explain --pcap` tells."""

from __future__ import annotations

import argparse
import contextlib
import functools
import gc
import io
import json
import random
import struct
import zlib
from dataclasses import dataclass

from emulator.capture.decode import decode
from emulator.capture.pcapng import Writer, read
from emulator.commands.explain import explain
from emulator.errors import WirelabError
from tests.unit.capture.samples import REAL, SAMPLES
from tests.unit.flows.test_links import FRAMES, TUNNELS

from .promises import Broken, folder, kept, octets_of_stream, refused_well, shown_safely

_SECTION, _INTERFACE, _SIMPLE, _NAMES, _STATISTICS, _ENHANCED = 0x0A0D0D0A, 1, 3, 4, 5, 6
LINK_TYPES = (0, 1, 9, 10, 12, 50, 51, 101, 105, 108, 113, 127, 147, 228, 229, 239, 276, 0xFFFF)
_NUMBERS = (
    0, 1, 2, 3, 4, 7, 8, 12, 16, 20, 28, 32, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000,
    0xFFFFFFFC, 0xFFFFFFFF,
)  # fmt: skip
_HOSTILE = (
    b"\x1b]0;owned\x07", b"\x1b[2J\x1b[1;1H", b"\x9b31m", b"\r\nunusual (0):", b"</script><script>alert(1)</script>",
    b"\xe2\x80\xae", b"\0", b"%s%n", b"\xff\xfe", b"A" * 300, b"\n  hint: rm -rf /", b"\xc0\x0c",
    b"GET /\x1b[31m HTTP/1.1\r\n\r\n",
)  # fmt: skip


@dataclass(frozen=True)
class Block:
    """A block of a pcapng file; `total` is what it says of its own length where that is not the truth."""

    kind: int
    body: bytes
    total: tuple[int, int] | None = None

    def octets(self, order: str) -> bytes:
        """As it stands in the file."""
        body = self.body + bytes(-len(self.body) % 4 if self.total is None else 0)
        first, last = self.total or (12 + len(body),) * 2
        return struct.pack(order + "II", self.kind, first) + body + struct.pack(order + "I", last)


def pcapng(frames: list[tuple[int, bytes]], step_ns: int = 1_000_000) -> bytes:
    """A capture of frames (link type, octets) at two interfaces by turns."""
    stream = io.BytesIO()
    writer = Writer(stream)
    numbers: dict[tuple[str, int], int] = {}
    for place, (link, frame) in enumerate(frames):
        name = ("pc1:eth0", "sw:pc1")[place % 2]
        if (name, link) not in numbers:
            numbers[name, link] = writer.interface(name, mac="02:57:4c:00:01:00", link_type=link)
        writer.packet(numbers[name, link], 10**18 + place * step_ns, frame, direction=("out", "in", None)[place % 3])
    writer.names({"10.0.0.1": "pc1", "2001:db8::2": "www.example.com"})
    for number in numbers.values():
        writer.statistics(number, received=9, dropped=1, start_ns=1, end_ns=2)
    writer.flush()
    return stream.getvalue()


def _pcap(frames: list[tuple[int, bytes]], order: str, magic: int) -> bytes:
    head = struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, 262144, frames[0][0])
    rows = [
        struct.pack(order + "IIII", 1, number, len(frame), len(frame)) + frame
        for number, (_, frame) in enumerate(frames)
    ]
    return head + b"".join(rows)


@functools.cache
def _frames() -> tuple[tuple[int, bytes], ...]:
    """Link type and octets of every frame at hand."""
    real = read(REAL)
    return (
        *((1, frame) for frame in SAMPLES.values()),
        *FRAMES.values(),
        *((101, packet) for packet in TUNNELS.values()),
        *((real.interfaces[packet.interface].link_type, packet.data) for packet in real.packets),
    )


@functools.cache
def seeds() -> tuple[bytes, ...]:
    """Small captures of all kinds of frames and of all forms of file."""
    frames = list(_frames())
    parts = [frames[start : start + 3] for start in range(0, len(frames), 3)]
    return (
        *map(pcapng, parts),
        pcapng(frames[:20], step_ns=61 * 10**9),
        _pcap(frames[:5], "<", 0xA1B2C3D4),
        _pcap(frames[5:9], ">", 0xA1B23C4D),
        pcapng([(1, frame) for frame in _chatter()]),
    )


def _chatter() -> list[bytes]:
    """Names and payloads from the wire that try to be more than text."""
    found = []
    for name, old in (
        ("request", b"/a?b=1"), ("request", b"www.example.com"), ("response", b"200 OK"), ("ack", b"home.lan"),
        ("discover", b"pc1"), ("client hello", b"www.example.com"), ("dns answer", b"example"),
    ):  # fmt: skip
        new = b"\x1b]0;x\x07</script>"[: len(old)].ljust(len(old), b"\x1b")
        found.append(SAMPLES[name].replace(old, new))
    return found


def _blocks(octets: bytes) -> tuple[str, list[Block]] | None:
    """The blocks of a pcapng file, as far as they can be told apart."""
    if octets[:4] != b"\x0a\x0d\x0d\x0a" or len(octets) < 12:
        return None
    order = "<" if octets[8:12] == b"\x4d\x3c\x2b\x1a" else ">"
    blocks, at = [], 0
    while len(octets) - at >= 12 and len(blocks) < 500:
        kind, total = struct.unpack_from(order + "II", octets, at)
        if total < 12 or at + total > len(octets):
            blocks.append(Block(kind, octets[at + 8 : -4], (total, total)))
            break
        blocks.append(Block(kind, octets[at + 8 : at + total - 4]))
        at += total
    return order, blocks


def mutate(octets: bytes, chance: random.Random) -> bytes:
    """A capture like `octets`: its blocks, its frames or just its octets changed."""
    taken = _blocks(octets) if chance.random() < 0.85 else None
    if taken is None:
        changed = bytearray(octets)
        for _ in range(chance.choice((1, 2, 5))):
            changed = _flip(changed, chance)
        return bytes(changed)
    order, blocks = taken
    for _ in range(chance.choice((1, 1, 1, 2, 3, 5))):
        if not blocks:
            break
        at = chance.randrange(len(blocks))
        packets = [number for number, block in enumerate(blocks) if block.kind == _ENHANCED]
        if packets and chance.random() < 0.65:
            at = chance.choice(packets)
            blocks[at] = _with_frame(blocks[at], order, chance)
            continue
        _change(blocks, at, order, chance)
    if chance.random() < 0.02:
        order = "<" if order == ">" else ">"
    return b"".join(block.octets(order) for block in blocks)


def _flip(octets: bytearray, chance: random.Random) -> bytearray:
    if not octets:
        return octets
    at = chance.randrange(len(octets))
    kind = chance.randrange(5)
    if kind == 0:
        octets[at] = chance.randrange(256)
    elif kind == 1:
        octets[at] ^= 1 << chance.randrange(8)
    elif kind == 2:
        number = chance.choice(_NUMBERS)
        size = chance.choice((1, 2, 4))
        octets[at : at + size] = (number & (1 << 8 * size) - 1).to_bytes(size, chance.choice(("big", "little")))
    elif kind == 3:
        del octets[at : at + chance.choice((1, 2, 4, 30))]
    else:
        text = chance.choice(_HOSTILE)
        if chance.random() < 0.5:
            octets[at : at + len(text)] = text
        else:
            octets[at:at] = text
    return octets


def _with_frame(block: Block, order: str, chance: random.Random) -> Block:
    """The packet block with another frame in it; its lengths are right again."""
    if len(block.body) < 20:
        return block
    interface, high, low, captured, length = struct.unpack_from(order + "5I", block.body)
    frame = bytearray(block.body[20 : 20 + captured])
    options = block.body[20 + captured + -captured % 4 :]
    kind = chance.randrange(10)
    if kind == 0:
        frame = bytearray(chance.choice(_frames())[1])
    elif kind == 1:
        other = chance.choice(_frames())[1]
        frame = frame[: chance.choice((14, 18, 34, 42, 54, 62))] + bytearray(
            other[chance.choice((0, 14, 34, 42, 54)) :]
        )
    elif kind == 2:
        frame = frame[: chance.randrange(len(frame) + 1)]
    elif kind == 3 and len(frame) > 1:
        for _ in range(20):
            at = chance.randrange(min(len(frame), 80))
            frame[at] = chance.choice((0, 1, 0xFF, chance.randrange(256)))
    elif kind == 4:
        high, low = chance.choice(
            ((0, 0), (0xFFFFFFFF, 0xFFFFFFFF), (high, low ^ 1 << chance.randrange(32)), (high, low))
        )
    elif kind == 5:
        interface = chance.choice((interface, 0, 1, 2, 0xFFFFFFFF))
    else:
        for _ in range(chance.choice((1, 1, 2, 4))):
            frame = _flip(frame, chance)
    frame = frame[:70_000]
    length = chance.choice((len(frame), len(frame), len(frame), length, 0, 0xFFFFFFFF))
    head = struct.pack(order + "5I", interface, high, low, len(frame), length)
    return Block(block.kind, head + bytes(frame) + bytes(-len(frame) % 4) + options)


def _change(blocks: list[Block], at: int, order: str, chance: random.Random) -> None:
    block = blocks[at]
    kind = chance.randrange(9)
    if kind == 0:
        del blocks[at]
    elif kind == 1:
        blocks[at:at] = [block] * chance.choice((1, 1, 2, 30))
    elif kind == 2:
        other = chance.randrange(len(blocks))
        blocks[at], blocks[other] = blocks[other], block
    elif kind == 3:
        total = chance.choice((*_NUMBERS, 12 + len(block.body)))
        blocks[at] = Block(block.kind, block.body, (total, chance.choice((total, 12 + len(block.body)))))
    elif kind == 4:
        kinds = (_SECTION, _INTERFACE, 2, _SIMPLE, _NAMES, _STATISTICS, _ENHANCED, 0, 0x80000001, 0xFFFFFFFF)
        blocks[at] = Block(chance.choice(kinds), block.body)
    elif kind == 5:
        blocks[at] = Block(block.kind, block.body[: chance.randrange(len(block.body) + 1)])
    elif kind == 6:
        code = chance.choice((0, 1, 2, 3, 4, 5, 6, 9, 14, 0xFFFF))
        value = chance.choice((b"", bytes([chance.randrange(256)]), bytes(8), b"\xff" * 8, *_HOSTILE))
        size = chance.choice((len(value), len(value), 0, 0xFFFF))
        blocks[at] = Block(
            block.kind, block.body[:-4] + struct.pack(order + "HH", code, size) + value + bytes(-len(value) % 4 + 4)
        )
    elif kind == 7:
        link = struct.pack(order + "HHI", chance.choice(LINK_TYPES), 0, chance.choice(_NUMBERS))
        blocks.insert(at, Block(_INTERFACE, link + block.body[8:] if block.kind == _INTERFACE else link))
    else:
        blocks[at] = Block(block.kind, bytes(_flip(bytearray(block.body), chance)))


def check(octets: bytes) -> str:
    """Tell the story of the capture of these octets, as text and as a page, or as JSON; what came of it.

    Raises:
        Broken: a promise does not hold.
        Exception: it ended in another error than those for a person.
    """
    place = folder()
    path = place / "capture"
    path.write_bytes(octets)
    page = place / "story.html"
    turn = zlib.crc32(octets) % 8  # not all for each input: half of the time would be theirs
    with kept(place):
        try:
            text, said = _explained(path, html=str(page) if turn in (0, 1) else None, as_json=turn in (2, 3))
            if turn == 4:
                capture = read(path)
                decode(capture.packets, capture.interfaces)
        except WirelabError as error:
            refused_well(error)
            return "refused"
    shown_safely(text)
    shown_safely(said)
    if said.count("\n") > 1:
        raise Broken(f"several lines on standard error: {said!a}")
    if turn in (0, 1):
        _is_one_page(page.read_text(encoding="utf-8"))
    if turn in (2, 3):
        json.loads(text)
    return "damaged" if "was read up to" in said else "read"


def _explained(path: object, *, html: str | None = None, as_json: bool = False) -> tuple[str, str]:
    options = argparse.Namespace(
        lab=None, node=None, argv=[], pcap=str(path), json=as_json, html=html, follow=False, write=None
    )
    out, err = octets_of_stream(), octets_of_stream()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            explain(options)
    finally:
        gc.enable()
    return tuple(stream.buffer.getvalue().decode() for stream in (out, err))  # type: ignore[attr-defined,return-value]


@functools.cache
def _scripts() -> int:
    path = folder() / "empty"
    path.write_bytes(pcapng([]))
    page = folder() / "empty.html"
    _explained(path, html=str(page))
    return page.read_text(encoding="utf-8").lower().count("<script")


def _is_one_page(page: str) -> None:
    """Require that no packet has brought a script into the page, or ended the one that is there."""
    for tag in ("<script", "</script"):
        if (count := page.lower().count(tag)) != _scripts():
            raise Broken(f"{tag} stands {count} times in the page")
