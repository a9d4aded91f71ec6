"""Running a command in a node to its end, from a process that has entered the lab. Standard library only."""

from __future__ import annotations

import contextlib
import math
import os
import selectors
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from emulator.run import spawn

OUTPUT_LIMIT = 16 << 20
"""Octets of output that are kept of each stream of a command; a runaway command cannot fill the memory."""


class Finished(NamedTuple):
    """How a command ended. `status` is negative for a signal, None when its time was over."""

    status: int | None
    stdout: bytes
    stderr: bytes
    began_ns: int
    ended_ns: int


class Running:
    """A command that has been begun in a node. `confirm` it, then feed it to a `Crowd` to wait for its end."""

    def __init__(
        self,
        spaces: spawn.Spaces,
        argv: Sequence[str],
        env: Mapping[str, str],
        stdin: bytes,
        timeout_s: float,
        cwd: str,
        *,
        unattended: bool = False,
        output_limit: int = OUTPUT_LIMIT,
        told: Callable[[bool, bytes], None] | None = None,
        open_files: tuple[int, int] | None = None,
    ) -> None:
        """Begin a command.

        Args:
            stdin: what it reads.
            timeout_s: after so many seconds it is killed.
            unattended: it outlives this process.
            output_limit: octets that are kept of each of its streams.
            told: is called with each piece of output, which is not kept then; and with whether it is an error's.
            open_files: see `spawn.begin`.

        Raises:
            OSError: no process could be made.
        """
        self.unattended = unattended
        self.began_ns = time.time_ns()
        self.deadline = time.monotonic() + timeout_s
        self.timed_out = False
        self.cut = False
        self.output: dict[int, bytearray] = {}
        self._stdin = stdin
        self._sweep = False
        self._output_limit = output_limit
        self._told = told
        self.pidfd = -1
        ends: list[int] = []
        try:
            for _ in range(3):
                ends += os.pipe2(os.O_CLOEXEC)
            read_in, self.write_in, self.read_out, write_out, self.read_err, write_err = ends
            self._begun = spawn.begin(
                spaces,
                argv,
                env,
                stdin=read_in,
                stdout=write_out,
                stderr=write_err,
                die_with_parent=not unattended,
                cwd=cwd,
                open_files=open_files,
            )
        except OSError:
            for descriptor in ends:
                os.close(descriptor)
            raise
        for descriptor in (read_in, write_out, write_err):
            os.close(descriptor)
        self.pid = self._begun.pid
        self.output = {self.read_out: bytearray(), self.read_err: bytearray()}
        os.set_blocking(self.write_in, False)

    def confirm(self) -> None:
        """Wait until the program runs.

        Raises:
            OSError: it could not be started; nothing of it is left.
        """
        try:
            spawn.confirm(self._begun)
            self.pidfd = os.pidfd_open(self.pid)
        except OSError:
            for descriptor in (self.write_in, self.read_out, self.read_err):
                os.close(descriptor)
            raise

    def feed(self) -> bool:
        """Write more of standard input; returns whether there is more to write."""
        while self._stdin:
            try:
                count = os.write(self.write_in, self._stdin[:65536])
            except BlockingIOError:
                return True
            except OSError:
                break
            self._stdin = self._stdin[count:]
        os.close(self.write_in)
        self.write_in = -1  # the number will be another command's next
        return False

    def drain(self, descriptor: int) -> bool:
        """Read what is there; returns whether the stream is still open."""
        part = os.read(descriptor, 65536)
        if self._told is not None:
            if part:
                self._told(descriptor == self.read_err, part)
            return bool(part)
        room = self._output_limit - len(self.output[descriptor])
        self.output[descriptor] += part[:room]
        self.cut = self.cut or len(part) > room
        return bool(part)

    def ask_to_end(self, grace_s: float, number: int = signal.SIGTERM, *, sweep: bool = False) -> None:
        """Send a signal to the command and its children; after `grace_s` seconds it is killed.

        Args:
            sweep: children that are still there when it has ended are killed: a shell's `command &` ignores SIGINT.
        """
        self._sweep = sweep
        self.deadline = min(self.deadline, time.monotonic() + grace_s)
        with contextlib.suppress(OSError):
            os.killpg(self.pid, number)

    def kill(self) -> None:
        """Its time is over."""
        self.timed_out = True
        with contextlib.suppress(OSError):
            os.killpg(self.pid, signal.SIGKILL)

    def finish(self) -> Finished:
        """Take the exit status of a command that has ended, and what it had still written."""
        if self.write_in >= 0:
            os.close(self.write_in)
        if self._sweep:
            with contextlib.suppress(OSError):  # before its number is given back, so it can be no other's
                os.killpg(self.pid, signal.SIGKILL)
        _, status = os.waitpid(self.pid, 0)
        ended_ns = time.time_ns()
        for descriptor in (self.read_out, self.read_err):
            os.set_blocking(descriptor, False)
            with contextlib.suppress(OSError):
                while self.drain(descriptor):
                    pass
            os.close(descriptor)
        os.close(self.pidfd)
        code = None if self.timed_out else os.waitstatus_to_exitcode(status)
        out, err = bytes(self.output[self.read_out]), bytes(self.output[self.read_err])
        return Finished(code, out, err, self.began_ns, ended_ns)


class Crowd:
    """Commands that run at the same time."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._running: dict[int, Running] = {}
        self._watched: int | None = None
        self.readable = False

    def watch(self, descriptor: int) -> None:
        """Let `wait` return too when `descriptor` has something to read; `readable` tells so."""
        self._watched = descriptor
        self._selector.register(descriptor, selectors.EVENT_READ, None)

    def __len__(self) -> int:
        return len(self._running)

    def add(self, running: Running) -> None:
        """Watch over `running` too."""
        self._running[running.pidfd] = running
        self._selector.register(running.pidfd, selectors.EVENT_READ, running)
        for descriptor in running.output:
            self._selector.register(descriptor, selectors.EVENT_READ, running)
        if running.feed():
            self._selector.register(running.write_in, selectors.EVENT_WRITE, running)

    def wait(self) -> list[tuple[Running, Finished]]:
        """Wait until at least one ends, and return those that did; an end is the program's, not that of its pipes."""
        self.readable = False
        while self._running or self._watched is not None:
            soonest = min((running.deadline for running in self._running.values()), default=math.inf)
            events = self._selector.select(None if soonest == math.inf else max(0.0, soonest - time.monotonic()))
            ended: list[Running] = []
            for key, _ in events:
                running: Running = key.data
                if key.fd == self._watched:
                    self.readable = True
                elif key.fd == running.pidfd:
                    ended.append(running)
                elif key.fd == running.write_in:
                    self._selector.unregister(key.fd)
                    if running.feed():
                        self._selector.register(running.write_in, selectors.EVENT_WRITE, running)
                elif not running.drain(key.fd):
                    self._selector.unregister(key.fd)
            if ended or self.readable:
                return [(running, self._take(running)) for running in ended]
            now = time.monotonic()
            for running in self._running.values():
                if now >= running.deadline and not running.timed_out:
                    running.kill()
                    running.deadline = now + 60
        return []

    def _take(self, running: Running) -> Finished:
        del self._running[running.pidfd]
        registered = self._selector.get_map()
        for descriptor in (running.pidfd, running.write_in, *running.output):
            if descriptor >= 0 and descriptor in registered:
                self._selector.unregister(descriptor)
        return running.finish()


def run(
    spaces: spawn.Spaces,
    argv: Sequence[str],
    env: Mapping[str, str],
    *,
    stdin: bytes = b"",
    timeout_s: float = 60.0,
    cwd: str = "/",
) -> Finished:
    """Run one command in a node and wait for its end.

    Raises:
        OSError: it could not be started.
    """
    crowd = Crowd()
    running = Running(spaces, argv, env, stdin, timeout_s, cwd)
    running.confirm()
    crowd.add(running)
    return crowd.wait()[0][1]
