"""Progress on standard error, and only on a terminal: what is going on, a bar, how fast it goes and how long it takes
still. One line, never wider than the terminal, that is wiped at the end."""

from __future__ import annotations

import collections
import contextlib
import math
import os
import signal
import sys
import threading
import time
import unicodedata
from collections.abc import Callable, Iterator
from typing import TextIO

from emulator.errors import one_line
from emulator.events import Bus, Event

_REDRAW_S = 0.1
"""The line is drawn so often, at most and at least: time goes on while a long step says nothing."""

_RATE_AFTER_S = 0.5
"""The rate is shown when a stage has taken so long; before, it says nothing yet."""

_WINDOW_S = 5.0
"""The rate is that of so many last seconds."""

_BAR = 20
_WIPE = "\r\x1b[K"


@contextlib.contextmanager
def progress(stream: TextIO | None = None) -> Iterator[Bus]:
    """A bus whose events are shown in one line of `stream`, standard error, that is wiped at the end."""
    bus = Bus()
    stream = stream or sys.stderr
    if not stream.isatty() or os.environ.get("TERM") == "dumb":
        yield bus
        return
    bar = Bar(time.monotonic)
    line = _Line(bar, stream)
    bus.listen(line.on_event)
    with _ticking(line.draw):
        try:
            yield bus
        finally:
            line.wipe()


@contextlib.contextmanager
def _ticking(call: Callable[[], None]) -> Iterator[None]:
    """Call `call` every `_REDRAW_S` seconds. By a timer and not by a thread: a process that has several may not enter
    namespaces (setns(2)). System calls that it interrupts go on (PEP 475)."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may have signal handlers: the line is drawn when something happens
        return
    before = signal.signal(signal.SIGALRM, lambda *_: call())
    signal.setitimer(signal.ITIMER_REAL, _REDRAW_S, _REDRAW_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class _Line:
    """The line of a terminal that shows a bar."""

    def __init__(self, bar: Bar, stream: TextIO) -> None:
        self._bar = bar
        self._stream = stream
        self._drawn_at = -math.inf
        self._busy = False

    def on_event(self, event: Event) -> None:
        """Take note of an event, and show it unless the line has just been drawn."""
        self._bar.take(event)
        if time.monotonic() - self._drawn_at >= _REDRAW_S:
            self.draw()

    def draw(self) -> None:
        """Draw the line, as wide as the terminal is now."""
        if self._busy:
            return  # the timer came while the line was being drawn: a stream may not be entered twice
        self._busy = True
        try:
            self._drawn_at = time.monotonic()
            self._write(_WIPE + self._bar.text(_columns(self._stream) - 1))
        finally:
            self._busy = False

    def wipe(self) -> None:
        """Leave no trace."""
        self._busy = True
        self._write(_WIPE)

    def _write(self, text: str) -> None:
        # Past the stream's buffer, which may not be entered by a signal handler while others write. If the terminal is
        # gone, the work goes on.
        with contextlib.suppress(OSError, ValueError):
            os.write(self._stream.fileno(), text.encode(self._stream.encoding or "utf-8", "replace"))


def _columns(stream: TextIO) -> int:
    """How wide the terminal of `stream` is; standard output may be elsewhere."""
    try:
        return os.get_terminal_size(stream.fileno()).columns or 80
    except (OSError, ValueError):
        return 80


class Bar:
    """What is known about the stage that goes on. `clock` gives seconds that only grow."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._event = Event("", "")
        self._began = clock()
        self._seen: collections.deque[tuple[float, int]] = collections.deque()

    def take(self, event: Event) -> None:
        """Take note of `event`; with another stage, or another total, everything begins anew."""
        now = self._clock()
        last = self._event
        if event.stage != last.stage or event.total != last.total or event.done < last.done:
            self._began = now
            self._seen.clear()
            self._seen.append((now, event.done))
        elif event.done > last.done:
            self._seen.append((now, event.done))
            while len(self._seen) > 2 and self._seen[1][0] < now - _WINDOW_S:
                self._seen.popleft()
        self._event = event

    def rate(self) -> float | None:
        """Steps a second, of late; None while nothing can be said."""
        if len(self._seen) < 2 or self._clock() - self._began < _RATE_AFTER_S:
            return None
        (first_at, first), (last_at, last) = self._seen[0], self._seen[-1]
        rate = (last - first) / max(last_at - first_at, 1e-6)
        silent = self._clock() - last_at
        return rate if silent * rate < 1 else (last - first + 1) / (self._clock() - first_at)  # the next is overdue

    def left_s(self) -> float | None:
        """Seconds until the last step is done, at this rate."""
        rate = self.rate()
        to_do = self._event.total - self._event.done
        if rate is None or to_do <= 0:
            return None
        return max(1.0, to_do / rate - (self._clock() - self._seen[-1][0]))

    def text(self, width: int) -> str:
        """The line, in at most `width` columns; what does not fit is left out, the least important first."""
        event, seconds = self._event, self._clock() - self._began
        said = one_line(event.text)
        if not event.total:
            taken = f" {_duration(seconds)}" if seconds >= 1 else ""
            return fitted(f"{event.stage}: {said}{taken}" if event.stage else "", width)
        done = min(event.done, event.total)
        share = f"{event.stage} {done:,}/{event.total:,}"
        filled = _BAR * done // event.total
        bar = f"[{'#' * filled}{'.' * (_BAR - filled)}] {100 * done // event.total:3} %"
        rate, left = self.rate(), self.left_s()
        speed = f"{_speed(rate)}, {_duration(math.ceil(left))} left" if rate and left is not None else ""
        for parts in ((share, bar, speed, said), (share, speed, said), (share, speed), (share,)):
            line = "  ".join(part for part in parts if part)
            if columns(line) <= width or (parts[-1] is said and columns(line) - columns(said) + 8 <= width):
                break
        return fitted(line, width)


def _speed(rate: float) -> str:
    """`812/s`, `2.5/s`, `12 s each`."""
    if rate >= 10:
        return f"{rate:,.0f}/s"
    return f"{rate:.1f}/s" if rate >= 0.5 else f"{1 / rate:.0f} s each"


def _duration(seconds: float) -> str:
    """`8 s`, `2 min 05 s`, `1 h 02 min`."""
    whole = int(seconds)
    if whole < 100:
        return f"{whole} s"
    if whole < 6000:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"


def columns(text: str) -> int:
    """How many columns of a terminal `text` takes: wide characters take two, combining ones none (UAX #11)."""
    return sum(_columns_of(character) for character in text)


def _columns_of(character: str) -> int:
    if unicodedata.combining(character) or unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def fitted(text: str, width: int) -> str:
    """`text`, cut so that it takes at most `width` columns."""
    if columns(text) <= width:
        return text
    taken, room = "", width - 1
    for character in text:
        room -= _columns_of(character)
        if room < 0:
            break
        taken += character
    return taken + "…" if width > 0 else ""
