"""The story of a large capture takes time in proportion to it, whatever is in it."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest

from emulator.capture.frame import Frame
from emulator.explain.story import Recording, tell
from emulator.explain.surroundings import of_capture


def frames(build: Any, what: str, count: int) -> list[Frame]:
    """One long connection, many short ones, many questions, or one frame over and over (a storm)."""
    wire: Any = build.Wire()
    for number in range(count):
        if what == "one connection":
            packet = build.Packet("tcp", "10.0.0.1", "10.0.0.2", 4000, 80, seq=number * 10, flags="A",
                                  payload=b"0123456789", id=number & 0xFFFF)  # fmt: skip
        elif what == "connections":
            packet = build.Packet("tcp", "10.0.0.1", "10.0.0.2", 1024 + number % 60_000, 80, flags="S", seq=number)
        elif what == "lost segments":
            packet = build.Packet("tcp", "10.0.0.1", "10.0.0.2", 4000, 80, seq=(number * 7919) % 65_536, flags="A",
                                  payload=b"01234", id=number & 0xFFFF)  # fmt: skip
        elif what == "questions":
            packet = build.Packet("udp", "10.0.0.1", "10.0.0.2", 5000, 53, payload=bytes(str(number), "ascii"),
                                  layers=("dns",), fields={"dns.id": (number,), "dns.qry.name": ("x",)})  # fmt: skip
        else:
            packet = build.Packet("udp", "10.0.0.1", "255.255.255.255", 5000, 7, payload=b"again")
        wire.see_packet("eth0", None, packet)
    return [replace(frame, direction=None) for frame in wire.frames]


def seconds(recorded: list[Frame]) -> float:
    began = time.process_time()
    tell(Recording(recorded, (), of_capture((), recorded)))
    return time.process_time() - began


@pytest.mark.parametrize("what", ["one connection", "connections", "lost segments", "questions", "storm"])
def test_twice_as_much_takes_twice_as_long(build: Any, what: str) -> None:
    few, many = frames(build, what, 2_000), frames(build, what, 8_000)
    seconds(few)
    # Four times as much; with quadratic work it would take sixteen times as long.
    assert seconds(many) < 9 * max(seconds(few), 0.05)
