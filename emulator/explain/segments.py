"""The segments of a TCP connection, ready to be compared, and its two sides."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from emulator.capture.frame import Frame
from emulator.explain.journeys import Journey

FIN, SYN, RST, ACK = 0x01, 0x02, 0x04, 0x10


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment as it was seen first."""

    journey: Journey
    first: Frame
    flags: int
    sequence: int
    octets: int

    def has(self, flags: int) -> bool:
        """Whether it has all these flags."""
        return self.flags & flags == flags


def segment_of(journey: Journey) -> Segment:
    """The segment that a packet carries."""
    frame = journey.first
    return Segment(
        journey,
        frame,
        frame.number_of("tcp.flags"),
        frame.number_of("tcp.seq_raw"),
        max(frame.number_of("tcp.len"), 0),
    )


@dataclass(frozen=True)
class Side:
    """One end: its address, port and segments, and how it is called."""

    address: str
    port: int
    name: str
    segments: tuple[Segment, ...]

    @property
    def end(self) -> str:
        """`192.0.2.80:80`."""
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"

    @cached_property
    def data(self) -> tuple[Journey, ...]:
        """The packets with data, without those sent again."""
        seen: set[int] = set()
        found = []
        for segment in self.segments:
            if segment.octets and segment.sequence not in seen:
                seen.add(segment.sequence)
                found.append(segment.journey)
        return tuple(found)
