"""Which calls the filter of nodes' programs refuses, by an interpreter of the few instructions that it uses."""

from __future__ import annotations

import struct

import pytest

from emulator.run.seccomp import ALLOW, CALLS, REFUSE, TIOCLINUX, TIOCSTI, program

ARCHITECTURES = list(CALLS)
TIOCGWINSZ = 0x5413


def decide(architecture: int, number: int, command: int = 0) -> int:
    """What the filter returns for a call (`struct seccomp_data`: seccomp(2))."""
    data = struct.pack("=iIQ6Q", number - (1 << 32 if number >> 31 else 0), architecture, 0, 0, command, 0, 0, 0, 0)
    instructions = list(struct.iter_unpack("=HBBI", program()))
    at = value = 0
    while True:
        code, if_true, if_false, operand = instructions[at]
        if code == 0x06:
            return int(operand)
        if code == 0x20:
            value = struct.unpack_from("=I", data, operand)[0]
        else:
            assert code == 0x15
            at += if_true if value == operand else if_false
        at += 1


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=hex)
def test_what_is_refused_and_nothing_else(architecture: int) -> None:
    ioctl, keys = CALLS[architecture]
    for number in ioctl:
        for command in (TIOCSTI, TIOCLINUX, TIOCSTI | 1 << 32, TIOCLINUX | 0xFFFFFFFF << 32):
            assert decide(architecture, number, command) == REFUSE
        for command in (0, TIOCGWINSZ, TIOCSTI << 32, TIOCSTI - 1, 0x5401):
            assert decide(architecture, number, command) == ALLOW
    for number in keys:
        assert decide(architecture, number) == decide(architecture, number, TIOCSTI) == REFUSE
    for number in set(range(600)) - set(ioctl) - set(keys):
        assert decide(architecture, number) == decide(architecture, number, TIOCSTI) == ALLOW


def test_a_number_means_another_call_on_another_machine() -> None:
    x86_64, i386 = ARCHITECTURES[:2]
    assert (decide(x86_64, 16, TIOCSTI), decide(i386, 16, TIOCSTI)) == (REFUSE, ALLOW)
    assert (decide(x86_64, 54, TIOCSTI), decide(i386, 54, TIOCSTI)) == (ALLOW, REFUSE)
    assert decide(0x80000016, 54, TIOCSTI) == ALLOW, "one that the filter does not know (s390x)"
