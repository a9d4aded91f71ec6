"""Messages between a lab's first process and those who ask it."""

from __future__ import annotations

import os
import resource
import socket
from collections.abc import Iterator

import pytest

from emulator.run import kernel

Ends = tuple[socket.socket, socket.socket]


@pytest.fixture
def ends() -> Iterator[Ends]:
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with one, other:
        yield one, other


@pytest.mark.parametrize("octets", [1, kernel.MESSAGE_OCTETS, kernel.MESSAGE_OCTETS + 1, 3_000_000])
def test_any_length_arrives(ends: Ends, octets: int) -> None:
    kernel.send_message(ends[0], b"x" * octets)
    assert kernel.receive_message(ends[1], long=True) == (b"x" * octets, [])


def test_files_beside_a_long_message(ends: Ends) -> None:
    read, write = os.pipe()
    kernel.send_message(ends[0], b"x" * 100_000, (read,) * kernel.FDS_A_MESSAGE)
    payload, fds = kernel.receive_message(ends[1], long=True)
    assert (len(payload), len(fds)) == (100_000, kernel.FDS_A_MESSAGE)
    os.write(write, b"through")
    assert os.read(fds[-1], 10) == b"through"
    for descriptor in (read, write, *fds):
        os.close(descriptor)


def test_who_expects_no_long_message_opens_no_file(ends: Ends) -> None:
    kernel.send_message(ends[0], b"x" * 100_000)
    payload, fds = kernel.receive_message(ends[1])
    assert len(payload) < 20
    assert len(fds) == 1
    os.close(fds[0])


def test_nobody_there(ends: Ends) -> None:
    ends[0].close()
    assert kernel.receive_message(ends[1], long=True) == (b"", [])


def test_more_files_than_may_be_open(ends: Ends) -> None:
    kernel.send_message(ends[0], b"x", (0,) * 100)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (ends[1].fileno() + 50, before[1]))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            kernel.receive_message(ends[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
