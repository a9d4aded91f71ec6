"""Progress as a person at a terminal sees it, and that nobody else does."""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import subprocess
import termios
from collections.abc import Callable

import pytest

from tests.conftest import Person
from tests.live.conftest import wait_until

WIPE = b"\r\x1b[K"


def at_a_terminal(person: Person, *words: str) -> tuple[bytes, str, int]:
    """Run `wirelab WORDS…` with a terminal of 70 columns as standard error; what it showed, printed, and its status."""
    leader, follower = os.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 70, 0, 0))
    os.fchmod(follower, 0o666)
    env = {**person.environment(), "TERM": "xterm"}
    process = person.popen(
        person.argv(*words), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=follower, env=env
    )
    os.close(follower)
    shown = b""
    with contextlib.suppress(OSError):  # EIO: the other side has been closed
        while part := os.read(leader, 65536):
            shown += part
    os.close(leader)
    printed, _ = process.communicate(timeout=60)
    return shown, printed, process.returncode


def test_up_and_verify_show_how_far_they_are(person: Person, lab_name: str, nothing_left: Callable[[], None]) -> None:
    shown, printed, status = at_a_terminal(person, "up", "ping", "--name", lab_name)
    assert status == 0
    assert b"up: reading the lab" in shown
    assert shown.endswith(WIPE), "nothing of it is left"
    lines = shown.decode().split(WIPE.decode())
    assert max(map(len, lines)) <= 69
    assert "\x1b" not in printed
    shown, printed, status = at_a_terminal(person, "verify", lab_name)
    assert status == 0
    assert b"verify 1/" in shown
    assert shown.endswith(WIPE)
    shown, printed, status = at_a_terminal(person, "down", lab_name)
    assert (shown.endswith(WIPE), printed, status) == (True, f"{lab_name} is down\n", 0)


def test_nobody_else_sees_it(person: Person, lab_name: str, nothing_left: Callable[[], None]) -> None:
    assert person.wirelab("up", "ping", "--name", lab_name).stderr == ""
    assert person.wirelab("verify", lab_name).stderr == ""
    assert person.wirelab("down", lab_name).stderr == ""


@pytest.mark.parametrize("words", [("up", "nosuch"), ("down", "nosuch"), ("up", "--topology", "single,0")])
def test_an_error_is_not_mixed_with_it(user: Person, words: tuple[str, ...]) -> None:
    shown, _, status = at_a_terminal(user, *words)
    assert status == 2
    said = shown.rpartition(WIPE)[2] or shown
    assert said.startswith(b"wirelab: ")
    wait_until(lambda: not list(user.runs.glob("*single*")), "nothing is left")
