"""Running one command in a running lab while everything is recorded. The result is a recording, told elsewhere."""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from threading import Event, Thread

from emulator.capture.frame import Frame, Interface
from emulator.capture.recorder import Recorder
from emulator.errors import CommandFailed
from emulator.explain.story import Command, Recording
from emulator.explain.surroundings import Surroundings, of_lab
from emulator.lab.resolved import ResolvedLab
from emulator.observe import read_tables, table_commands
from emulator.run.session import Job, Result, Session
from emulator.verify.evidence import Tables

QUIET_S = 0.2
"""After the command's end, recording goes on until nothing has been seen for so long …"""
QUIET_MAX_S = 2.0
"""… but at most for so long."""
LOOK_S = 0.05
"""Between two looks at what has been recorded."""
_UNLIMITED_S = 7 * 24 * 3600.0

_SECTION_HEADER, _ENHANCED_PACKET = 0x0A0D0D0A, 6

Heard = Callable[[Sequence[Frame], Surroundings, int], None]
"""Is given frames as they are recorded, what is known around them, and when the command began, in nanoseconds."""


class Tail:
    """The packets of a capture that is still being written, each once."""

    def __init__(self, path: Path) -> None:
        self._file = open(path, "rb")  # noqa: SIM115 - closed by `close`
        self._rest = b""
        self._prefix = b""
        self._frames = 0
        self.last_change = time.monotonic()
        self.interfaces: tuple[Interface, ...] = ()

    def close(self) -> None:
        """Stop reading."""
        self._file.close()

    def octets(self) -> bytes:
        """What was written since the last time."""
        new = self._file.read()
        if new:
            self.last_change = time.monotonic()
        return new

    def frames(self) -> tuple[Frame, ...]:
        """The frames that were written since the last time, numbered as in the file."""
        from emulator.capture.decode import decode
        from emulator.capture.pcapng import read

        self._rest += self.octets()
        packets: list[bytes] = []
        place = 0
        while len(self._rest) - place >= 12:
            kind, size = struct.unpack_from("=II", self._rest, place)
            if size < 12 or len(self._rest) - place < size:
                break
            block = self._rest[place : place + size]
            if kind == _ENHANCED_PACKET:
                packets.append(block)
            else:
                self._prefix += block
            place += size
        self._rest = self._rest[place:]
        if not packets:
            return ()
        capture = read(BytesIO(self._prefix + b"".join(packets)))
        self.interfaces = capture.interfaces
        frames = decode(capture.packets, capture.interfaces, encode=False)
        numbered = tuple(replace(frame, number=frame.number + self._frames) for frame in frames)
        self._frames += len(numbered)
        return numbered


@dataclass(frozen=True)
class Watched:
    """A command to run on `node`; `timeout_s` is None for as long as it takes."""

    node: str
    argv: tuple[str, ...]
    timeout_s: float | None = None
    cwd: str = "/"


def watch(
    lab: ResolvedLab, session: Session, directory: Path, wanted: Watched, capture: Path, heard: Heard | None = None
) -> Recording:
    """Run a command while all of the lab is recorded into `capture`.

    Ctrl-C ends the command, and the recording is whole all the same.

    Args:
        directory: the run directory of the lab.
        heard: is given the frames as they come.

    Raises:
        MachineError: there is no such program.
        CommandFailed: it cannot be recorded.
    """
    try:
        output = os.open(capture, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise CommandFailed(f"cannot write {capture}: {error.strerror}") from None
    loopbacks = [interface.place for interface in lab.interfaces() if interface.is_loopback]
    try:
        recorder = Recorder(directory, list(lab.nodes), output, [*lab.nodes, *loopbacks] if loopbacks else ())
    finally:
        os.close(output)
    trackers = [node.name for node in lab.nodes.values() if "conntrack" in table_commands(node)]
    try:
        before = read_tables(lab, session)
        recorder.wait_ready()
        events = session.start(
            Job(node, ("conntrack", "-E", "-o", "timestamp"), timeout_s=_UNLIMITED_S) for node in trackers
        )
        result = _run(lab, session, wanted, capture, of_lab(lab, before), heard)
        recorder.stop()
        session.stop(events)
        meanwhile = dict(zip(trackers, (done.stdout for done in session.wait(events)), strict=True))
        after = read_tables(lab, session)
    except BaseException:
        recorder.close()
        raise
    return _recording(lab, capture, wanted, result, (before, meanwhile, after))


def _run(
    lab: ResolvedLab, session: Session, wanted: Watched, capture: Path, around: Surroundings, heard: Heard | None
) -> Result:
    """Run the command, hand on the frames meanwhile, and wait until the wires are quiet."""
    job = Job(
        wanted.node,
        wanted.argv,
        timeout_s=wanted.timeout_s or _UNLIMITED_S,
        env=lab.nodes[wanted.node].env,
        cwd=wanted.cwd,
    )
    tail = Tail(capture)
    ended = Event()
    began_ns = time.time_ns()
    failures: list[BaseException] = []

    def listen() -> None:
        try:
            _listen(tail, None if heard is None else lambda frames: heard(frames, around, began_ns), ended)
        except BaseException as error:  # a boundary between threads: it is raised again where the command is awaited
            failures.append(error)

    listener = Thread(target=listen, daemon=True)
    numbers = session.start([job])
    listener.start()
    try:
        try:
            results = session.wait(numbers)
        except KeyboardInterrupt:
            session.stop(numbers)
            results = session.wait(numbers)
    finally:
        ended.set()
        listener.join()
        tail.close()
    if failures:
        raise failures[0]
    return results[0]


def _listen(tail: Tail, heard: Callable[[Sequence[Frame]], None] | None, ended: Event) -> None:
    """Hand on frames until the command has ended and the wires are quiet."""
    deadline: float | None = None
    while True:
        if heard is None:
            tail.octets()
        else:
            heard(tail.frames())
        now = time.monotonic()
        if deadline is None and ended.is_set():
            deadline, tail.last_change = now + QUIET_MAX_S, now
        if deadline is not None and now >= min(tail.last_change + QUIET_S, deadline):
            return
        if not ended.wait(LOOK_S):
            continue
        time.sleep(LOOK_S / 5)


def _recording(
    lab: ResolvedLab,
    capture: Path,
    wanted: Watched,
    result: Result,
    tables: tuple[Tables, Mapping[str, str], Tables],
) -> Recording:
    from emulator.capture.decode import decode
    from emulator.capture.pcapng import read

    before, meanwhile, after = tables
    recorded = read(capture)
    tracking = {
        node: (before.get(node, {}).get("conntrack", ""), text, after.get(node, {}).get("conntrack", ""))
        for node, text in meanwhile.items()
    }
    command = Command(
        wanted.node, wanted.argv, result.status, result.stdout, result.stderr, result.began_ns, result.ended_ns
    )
    around = of_lab(lab, before, recorded.interfaces)
    for address, nodes in of_lab(lab, after, recorded.interfaces).owners.items():
        for node in nodes:
            around.own(address, node)
    return Recording(
        decode(recorded.packets, recorded.interfaces, encode=False),
        recorded.interfaces,
        around,
        command,
        tracking,
        recorded.truncated,
    )
