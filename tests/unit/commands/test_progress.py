"""The line of progress: what it says, how wide it is, and that nothing of it is left."""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import signal
import struct
import termios
import threading
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.commands.progress import Bar, columns, fitted, progress
from emulator.events import Event

WIPE = b"\r\x1b[K"


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Terminal:
    """A real pseudo-terminal: `stream` is what a program writes to, `said` what a person sees."""

    def __init__(self, width: int) -> None:
        self._leader, follower = os.openpty()
        fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
        os.set_blocking(self._leader, False)
        self.stream = os.fdopen(follower, "w", encoding="utf-8")

    def said(self, until: bytes = b"") -> bytes:
        """Everything that has been written since the last call; waits until `until` is at its end."""
        octets = b""
        deadline = time.monotonic() + 20
        while True:
            with contextlib.suppress(BlockingIOError):
                octets += os.read(self._leader, 65536)
            if octets and octets.endswith(until):
                return octets
            assert time.monotonic() < deadline, octets
            time.sleep(0.01)

    def close(self) -> None:
        """Hang up."""
        self.stream.close()
        os.close(self._leader)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    """A terminal of 60 columns."""
    made = Terminal(60)
    monkeypatch.setenv("TERM", "xterm")
    yield made
    made.close()


def counted_to(done: int, total: int, *, seconds: float) -> tuple[Bar, Clock]:
    """A bar that came from 0 to `done` of `total` evenly."""
    clock = Clock()
    bar = Bar(clock)
    for number in range(done + 1):
        clock.now = 100.0 + seconds * number / done
        bar.take(Event("up", "work", number, total))
    return bar, clock


def test_rate_and_time_left() -> None:
    bar, clock = counted_to(200, 1000, seconds=2.0)
    assert bar.rate() == pytest.approx(100)
    assert bar.left_s() == pytest.approx(8)
    assert bar.text(120) == "up 200/1,000  [####................]  20 %  100/s, 8 s left  work"
    clock.now += 0.005
    assert bar.left_s() == pytest.approx(7.995), "time goes on between two steps"


def test_the_rate_is_of_late() -> None:
    """Slow at first and fast now: the time left is that of now."""
    clock = Clock()
    bar = Bar(clock)
    for number in range(1001):
        clock.now += 1.0 if number < 10 else 0.01
        bar.take(Event("verify", "", number, 2000))
    assert bar.rate() == pytest.approx(100, rel=0.02)


def test_a_step_that_is_overdue_lowers_the_rate() -> None:
    bar, clock = counted_to(10, 20, seconds=1.0)
    clock.now += 9.0
    assert bar.rate() == pytest.approx(1.1)
    assert bar.left_s() == 1.0, "never none while there is work to do"


@pytest.mark.parametrize(("done", "seconds"), [(0, 5.0), (5, 0.2), (20, 4.0)])
def test_no_rate_before_anything_is_known_and_none_at_the_end(done: int, seconds: float) -> None:
    clock = Clock()
    bar = Bar(clock)
    bar.take(Event("up", "work", 0, 20))
    clock.now += seconds
    bar.take(Event("up", "work", done, 20))
    assert "left" not in bar.text(120)
    assert f"up {done}/20" in bar.text(120)


def test_another_stage_begins_anew() -> None:
    bar, clock = counted_to(20, 20, seconds=2.0)
    bar.take(Event("verify", "first scene", 0, 3))
    assert bar.rate() is None
    clock.now += 3
    bar.take(Event("verify", "second scene", 1, 3))
    assert bar.text(120).endswith("3 s each, 6 s left  second scene")


def test_without_a_total_the_time_is_shown() -> None:
    clock = Clock()
    bar = Bar(clock)
    assert bar.text(80) == ""
    bar.take(Event("up", "reading the lab file"))
    clock.now += 125
    assert bar.text(80) == "up: reading the lab file 2 min 05 s"


@given(
    stage=st.sampled_from(["up", "verify"]),
    text=st.text(max_size=60),
    done=st.integers(0, 10**6),
    total=st.integers(0, 10**6),
    seconds=st.floats(0, 10**6),
    width=st.integers(1, 200),
)
def test_it_is_never_wider_than_the_terminal(
    stage: str, text: str, done: int, total: int, seconds: float, width: int
) -> None:
    clock = Clock()
    bar = Bar(clock)
    bar.take(Event(stage, "", 0, total))
    clock.now += seconds
    bar.take(Event(stage, text, done, total))
    clock.now += seconds
    line = bar.text(width)
    assert columns(line) <= width
    assert "\n" not in line
    assert "\x1b" not in line


def test_what_is_left_out_first() -> None:
    bar, _ = counted_to(200, 1000, seconds=2.0)
    assert bar.text(50) == "up 200/1,000  100/s, 8 s left  work"
    assert bar.text(30) == "up 200/1,000  100/s, 8 s left"
    assert bar.text(20) == "up 200/1,000"
    assert bar.text(6) == "up 20…"


def test_wide_characters_take_two_columns() -> None:
    assert columns("电脑 a") == 6
    assert fitted("电脑电脑", 5) == "电脑…"
    assert columns("e\u0301") == 1


def test_it_is_shown_on_a_terminal_and_wiped(terminal: Terminal) -> None:
    with progress(terminal.stream) as bus:
        bus.emit(Event("up", "one thing\x1b[31m\nand another", 1, 3))
        shown = terminal.said("…".encode())
    wiped = terminal.said(WIPE)
    assert shown.startswith(WIPE)
    line = shown.removeprefix(WIPE).decode()
    assert line.startswith("up 1/3  [######..............]  33 %")
    assert "one thing\\x1b[31m\\n" in line
    assert len(line) == 59
    assert wiped.endswith(WIPE)


def test_time_goes_on_while_nothing_happens(terminal: Terminal) -> None:
    """The line is drawn anew though no event comes, and the timer and its handler are gone afterwards."""
    before = signal.getsignal(signal.SIGALRM)
    with progress(terminal.stream) as bus:
        bus.emit(Event("up", "reading the lab file"))
        seen = terminal.said(b"reading the lab file 1 s")
    assert seen.count(WIPE) > 2
    assert signal.getsignal(signal.SIGALRM) is before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_it_is_wiped_when_the_work_fails(terminal: Terminal) -> None:
    with pytest.raises(KeyboardInterrupt), progress(terminal.stream) as bus:
        bus.emit(Event("up", "work", 1, 2))
        raise KeyboardInterrupt
    assert terminal.said(WIPE)
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_a_terminal_that_hangs_up_does_not_end_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Terminal(60)
    monkeypatch.setenv("TERM", "xterm")
    with progress(made.stream) as bus:
        os.close(made._leader)
        bus.emit(Event("up", "work", 1, 2))
        done = True
    assert done
    made.stream.close()


def test_in_another_thread_there_is_no_timer(terminal: Terminal) -> None:
    def work() -> None:
        with progress(terminal.stream) as bus:
            bus.emit(Event("up", "work", 1, 2))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert b"up 1/2" in terminal.said(WIPE)


@pytest.mark.parametrize("term", ["dumb", "xterm"])
def test_nothing_without_a_terminal(monkeypatch: pytest.MonkeyPatch, term: str) -> None:
    monkeypatch.setenv("TERM", term)
    stream = io.StringIO()
    if term == "dumb":
        monkeypatch.setattr(stream, "isatty", lambda: True)
    with progress(stream) as bus:
        bus.emit(Event("up", "work", 1, 2))
    assert stream.getvalue() == ""
