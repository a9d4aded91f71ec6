"""Where a capture is written: a file, a ring of files, or a pipe whose reader may be slow. Standard library only."""

from __future__ import annotations

import os
import select
import stat
import time
from collections import deque
from pathlib import Path
from typing import Final

_PIPE_CHUNK: Final = 1 << 16


class Outlet:
    """A stream that takes everything at once and hands it on: to a file straight away, to a pipe as fast as it is read.

    A pipe's descriptor is made non-blocking, so a reader that is slow does not keep the recorder from its rings.
    """

    def __init__(self, fd: int, *, owned: bool = False) -> None:
        """Write to `fd`, which `close` closes when it is `owned`."""
        self._owned = owned
        self.written = 0
        """Octets that were given to `write`."""
        self._fd = fd
        self._waiting: deque[memoryview] = deque()
        self.waiting = 0
        """Octets that are held since the pipe is full."""
        self.is_pipe = stat.S_ISFIFO(os.fstat(fd).st_mode)
        if self.is_pipe:
            os.set_blocking(fd, False)

    def fileno(self) -> int:
        """The descriptor, for poll: a pipe is writable when its reader has made room."""
        return self._fd

    def flush(self) -> None:
        """Nothing is kept back but what a pipe does not take."""

    def close(self) -> None:
        """Give back what is owned."""
        if self._owned:
            self._owned = False
            os.close(self._fd)

    def write(self, octets: memoryview) -> int:
        """Take all of `octets`.

        Raises:
            OSError: they cannot be written. BrokenPipeError: nobody reads the pipe any more.
        """
        view = octets
        self.written += len(octets)
        if self.is_pipe:
            self._waiting.append(view)
            self.waiting += len(view)
            self.pump()
        else:
            while view:
                view = view[os.write(self._fd, view) :]
        return len(octets)

    def pump(self) -> None:
        """Give the pipe what it takes now."""
        while self._waiting:
            first = self._waiting[0]
            try:
                count = os.write(self._fd, first[:_PIPE_CHUNK])
            except BlockingIOError:
                return
            self.waiting -= count
            if count == len(first):
                self._waiting.popleft()
            else:
                self._waiting[0] = first[count:]

    def finish(self, timeout_s: float) -> bool:
        """Wait until the pipe has taken everything; False when its reader does not read within `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        poll = select.poll()
        poll.register(self._fd, select.POLLOUT)
        while self.waiting:
            left_s = deadline - time.monotonic()
            if left_s <= 0 or not poll.poll(left_s * 1000):
                return False
            self.pump()
        return True


class Files:
    """The names of a ring of files: NAME_00001_20260131120000.pcapng and so on, as dumpcap calls them.

    At most `keep` of them stay; the oldest is removed when the next one is begun.
    """

    def __init__(self, path: str, keep: int) -> None:
        self._path = Path(path)
        self._keep = keep
        self._number = 0
        self._made: deque[Path] = deque()

    def open_next(self) -> int:
        """A descriptor of the next file, which did not exist.

        Raises:
            OSError: it cannot be made.
        """
        self._number += 1
        when = time.strftime("%Y%m%d%H%M%S")
        path = self._path.with_name(f"{self._path.stem}_{self._number:05d}_{when}{self._path.suffix or '.pcapng'}")
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        self._made.append(path)
        if len(self._made) > self._keep:
            self._made.popleft().unlink(missing_ok=True)
        return fd
