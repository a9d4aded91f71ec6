"""Messages about neighbours, and the process that sends them: only what must be seen without a kernel."""

from __future__ import annotations

import struct

from emulator.reach.neighbours import OURS, Entry, pin, removal

MAC = bytes.fromhex("02574c000100")


def test_pin_is_permanent_exclusive_and_ours() -> None:
    head, tail = pin(7, bytes([10, 0, 0, 1]), MAC).add
    message = head + struct.pack("=i", 4) + tail
    length, kind, flags, number, port, family, index, state = struct.unpack_from("=IHHIIB3xiH", message)
    assert (length, kind, number, port, family, index) == (len(message), 28, 7, 0, 2, 4)
    assert flags == 0x1 | 0x400 | 0x200, "made only where there is none"
    assert state == 0x80, "NUD_PERMANENT, which the limit does not count"
    assert struct.pack("=HH4s", 8, 1, bytes([10, 0, 0, 1])) in message
    assert struct.pack("=HH6s", 10, 2, MAC) in message
    assert struct.pack("=HHB", 5, 12, OURS) in message


def test_removal_names_the_interface_and_the_address() -> None:
    address = bytes.fromhex("20010db8000000000000000000000001")
    message = removal(Entry(9, address, False, 0))
    length, kind, flags, _, _, family, index = struct.unpack_from("=IHHIIB3xi", message)
    assert (length, kind, flags, family, index) == (len(message), 29, 0x1, 10, 9)
    assert address in message
