"""The process that records a running lab: python -S -c … DIRECTORY OUTPUT_FD NODES SETTINGS [NODE[:INTERFACE]…].

It enters the lab's user namespace for good, so it is a process of its own; it stays out of the lab's PID namespace, so
that it can end the file properly when the lab ends. It says one line of JSON on standard error when all interfaces are
live (`{"ready": n}`), then, if asked, now and then `{"progress": …}` and `{"trouble": …}`, and one line at the end
(`{"received", "dropped", …}`), or `{"error": …}`. It stops when its standard input ends, and when the lab does.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from emulator.capture.bpf import Filter
from emulator.capture.outlet import Files
from emulator.capture.places import RING_OCTETS_MAX
from emulator.capture.record import Limits, Live, Source, record
from emulator.errors import CommandFailed, UsageError, WirelabError
from emulator.run import deputy
from emulator.run.control import Control, LabGone, enter_user

LIVE_RING_OCTETS_MAX: Final = 16 << 20
"""Kernel memory a ring of a recording that a person asked for, which may be of one interface under full load."""


@dataclass(frozen=True)
class Settings:
    """How to record.

    Attributes:
        live: follow interfaces, addresses and nodes as they come and go, and write the nodes' names.
        progress: tell the counters twice a second; needs `live`.
        wanted: the capture filter.
        duration_s, packets, octets: when to stop by itself.
        files: with `octets`, a ring of so many files, named after `path`, which is absolute.
    """

    live: bool = False
    progress: bool = False
    wanted: Filter | None = None
    duration_s: float | None = None
    packets: int | None = None
    octets: int | None = None
    files: int = 0
    path: str = ""


def _from_json(text: str) -> Settings:
    values = json.loads(text)
    wanted = values.pop("wanted")
    if wanted:
        programs = {int(kind): [tuple(row) for row in rows] for kind, rows in wanted["programs"].items()}
        values["wanted"] = Filter(wanted["expression"], programs)
    return Settings(**values)


def main(arguments: Sequence[str]) -> int:
    """Record until standard input ends; returns the exit status."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    if deputy.ENVIRONMENT in os.environ:
        deputy.respect_files()
    gc.disable()  # nothing here makes cycles, and looking for them is a fifth of the work
    directory, output, nodes = Path(arguments[0]), int(arguments[1]), json.loads(arguments[2])
    settings, only = _from_json(arguments[3]), list(arguments[4:])
    try:
        with Control(directory) as control:
            sources = _sources(control, nodes)
            enter_user(control.own_spaces())
            _record(control, sources, output, settings, only)
    except (WirelabError, OSError) as error:
        _say({"error": getattr(error, "message", None) or str(error), "usage": isinstance(error, UsageError)})
        return 1
    return 0


def _sources(control: Control, nodes: Sequence[str]) -> list[Source]:
    return [Source(node, descriptor) for node, descriptor in control.node_networks(nodes).items()]


def _record(control: Control, sources: Sequence[Source], output: int, settings: Settings, only: Sequence[str]) -> None:
    files = Files(settings.path, settings.files) if settings.files else None
    first = files.open_next() if files else None
    try:
        figures = record(
            sources,
            output if first is None else first,
            stop_fd=0,
            ready=lambda count: _say({"ready": count}),
            only=only or None,
            ring_bytes_max=LIVE_RING_OCTETS_MAX if settings.live else RING_OCTETS_MAX,
            wanted=settings.wanted,
            limits=Limits(
                settings.duration_s, settings.packets, settings.octets, open_next=files.open_next if files else None
            ),
            live=_live(control, sources, settings) if settings.live else None,
        )
    finally:
        if first is not None:
            os.close(first)
    lost = {entry.name: entry.dropped for entry in figures.interfaces if entry.dropped}
    _say(
        {
            "received": figures.received,
            "dropped": figures.dropped,
            "interfaces": len(figures.interfaces),
            "octets": figures.octets,
            "lost": lost,
            "why": figures.why,
        }
    )


def _live(control: Control, sources: Sequence[Source], settings: Settings) -> Live:
    return Live(
        gone_fd=control.fileno(),
        more=_NewNodes(control, sources),
        progress=(lambda progress: _say({"progress": asdict(progress)})) if settings.progress else None,
        trouble=lambda text: _say({"trouble": text}),
    )


class _NewNodes:
    """Finds nodes that are added to the running lab, by its facts, and those that have another network namespace than
    before, since they were switched off."""

    def __init__(self, control: Control, sources: Sequence[Source]) -> None:
        self._control = control
        self._facts = Path(control.directory) / "lab.json"
        self._known = {source.node: _identity(source) for source in sources}
        self._seen = self._stamp()
        self._epoch = 0

    def _stamp(self) -> tuple[int, int]:
        try:
            info = self._facts.stat()
        except OSError:
            return 0, 0
        return info.st_ino, info.st_mtime_ns

    def __call__(self) -> list[Source]:
        found: list[Source] = []
        with contextlib.suppress(OSError, ValueError, KeyError, LabGone):
            stamp = self._stamp()
            if stamp != self._seen:
                self._seen = stamp
                nodes = json.loads(self._facts.read_text(encoding="utf-8"))["nodes"]
                found += self._new([node for node in nodes if node not in self._known])
            epoch = self._control.ask("epoch")[0]["epoch"]
            if epoch != self._epoch:
                self._epoch = epoch
                found += self._new(list(self._known))
        return found

    def _new(self, nodes: Sequence[str]) -> list[Source]:
        """Those of `nodes` whose namespace is not known."""
        found = []
        for source in _sources(self._control, nodes):
            if self._known.get(source.node) == _identity(source):
                os.close(source.namespace_fd)
            else:
                self._known[source.node] = _identity(source)
                found.append(source)
        return found


def _identity(source: Source) -> int:
    return os.fstat(source.namespace_fd).st_ino


def _say(message: dict[str, Any]) -> None:
    with contextlib.suppress(BrokenPipeError):
        os.write(2, json.dumps(message).encode() + b"\n")


@dataclass(frozen=True)
class Figures:
    """What was recorded: packets that reached the interfaces, and those of them that are not in the file.

    Attributes:
        lost: interface → packets lost there.
        octets: the size of the file.
        why: what ended it: "stopped", "lab", "duration", "count", "size" or "reader".
    """

    received: int
    dropped: int
    interfaces: int
    lost: Mapping[str, int] = field(default_factory=dict)
    octets: int = 0
    why: str = "stopped"


class Recorder:
    """A recording that goes on beside this process; it ends with `stop`, or with this process."""

    def __init__(
        self,
        directory: Path,
        nodes: Sequence[str],
        output_fd: int,
        only: Sequence[str] = (),
        settings: Settings | None = None,
    ) -> None:
        root = str(Path(__file__).resolve().parents[2])
        code = (
            f"import sys; sys.path.insert(0, {root!r})\n"
            "from emulator.capture.recorder import main; sys.exit(main(sys.argv[1:]))"
        )
        words = [str(directory), str(output_fd), json.dumps(list(nodes)), json.dumps(asdict(settings or Settings()))]
        self._buffer = b""
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", code, *words, *only],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            pass_fds=(output_fd,),
            cwd="/",
            start_new_session=True,
        )

    def fileno(self) -> int:
        """For select: readable when `message` has something."""
        return self._process.stderr.fileno() if self._process.stderr else -1

    def wait_ready(self) -> int:
        """Wait until every interface is recorded; returns how many there are.

        Raises:
            UsageError, CommandFailed: it cannot be recorded.
        """
        return int(self._read("ready")["ready"])

    def message(self) -> dict[str, Any]:
        """What the recorder says next, of whatever kind; waits for it. `{}` when it has ended."""
        while b"\n" not in self._buffer:
            part = os.read(self.fileno(), 1 << 16)
            if not part:
                break
            self._buffer += part
        line, _, self._buffer = self._buffer.partition(b"\n")
        if not line:
            return {}
        try:
            answer: dict[str, Any] = json.loads(line)
        except ValueError:
            rest = line + b"\n" + self._buffer + (self._process.stderr.read() if self._process.stderr else b"")
            self._buffer = b""
            answer = {"error": rest.decode(errors="replace").strip().rpartition("\n")[2]}
        return answer

    def pending(self) -> bool:
        """Whether `message` has something without waiting for the pipe."""
        return b"\n" in self._buffer

    def _read(self, key: str) -> dict[str, Any]:
        answer = self.message()
        while "progress" in answer or "trouble" in answer:
            answer = self.message()
        if key not in answer:
            self.close()
            raise (UsageError if answer.get("usage") else CommandFailed)(answer.get("error", "the recorder has ended"))
        return answer

    def figures(self, answer: Mapping[str, Any]) -> Figures:
        """The last message as figures.

        Raises:
            UsageError, CommandFailed: it is an error, or the recorder ended without a word.
        """
        self.close()
        if "received" not in answer:
            raise (UsageError if answer.get("usage") else CommandFailed)(answer.get("error", "the recorder has ended"))
        return Figures(**answer)

    def ask_to_stop(self) -> None:
        """Begin to end the recording; the last message comes soon."""
        if self._process.stdin:
            self._process.stdin.close()

    def stop(self) -> Figures:
        """End the recording; everything that had arrived by now is in the file then."""
        self.ask_to_stop()
        return self.figures(self._read("received"))

    def close(self) -> None:
        """End the recorder, whatever it does."""
        for stream in (self._process.stdin, self._process.stderr):
            if stream:
                stream.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
