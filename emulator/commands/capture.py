"""`wirelab capture`: the packets of a running lab into one file, onto a pipe, or into Wireshark.

Standard library only, to begin at once.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emulator.capture.bpf import compile_filter
from emulator.capture.recorder import Figures, Recorder, Settings
from emulator.errors import CommandFailed, MachineError, UsageError, one_line
from emulator.run import runs, tools

ENDINGS: Mapping[str, str] = {
    "lab": "the lab has ended",
    "duration": "the time is over",
    "count": "so many packets were asked for",
    "size": "the file is full",
    "reader": "nobody reads any more",
}
"""Why a recording ended, when nobody ended it."""


def capture(options: argparse.Namespace) -> int:
    """Record packets until Ctrl-C, until a limit is reached, or until the lab ends."""
    folder = runs.directory(options.lab)
    nodes = runs.facts(folder)["nodes"]
    only = places(options.places, nodes, options.lab)
    settings = _settings(options)
    with stop_signals() as wake, _target(options) as target:
        recorder = Recorder(folder, list(nodes), target.fd, only, settings)
        target.release()
        try:
            count = _ready(recorder, nodes)
            interfaces = "1 interface" if count == 1 else f"{count} interfaces"
            print(f"recording {interfaces} of {options.lab}{target.into}; Ctrl-C ends it", file=sys.stderr)
            counter = Counter() if settings.progress else None
            figures = follow(recorder, wake, lambda message: _show(message, counter))
        finally:
            with contextlib.suppress(OSError):
                recorder.close()
        if counter:
            counter.wipe()
    for line in summary(figures):
        print(line, file=sys.stderr)
    return 0


def _settings(options: argparse.Namespace) -> Settings:
    if options.files and (not options.max_size or not options.write or options.write == "-"):
        raise UsageError("--files needs --max-size, and -w with the name of a file", hint="-w FILE --max-size 10M")
    return Settings(
        live=True,
        progress=sys.stderr.isatty(),
        wanted=compile_filter(options.filter) if options.filter is not None else None,
        duration_s=options.duration,
        packets=options.count,
        octets=options.max_size,
        files=options.files or 0,
        path=str(Path(options.write).absolute()) if options.files else "",
    )


# Places


def places(words: Sequence[str], nodes: Mapping[str, Any], lab: str) -> list[str]:
    """The interfaces and nodes that `words` name, each once: `node`, `node:interface`, and both ends of a link.

    Args:
        nodes: those of the lab's facts.

    Raises:
        UsageError: a word is a link that the lab does not have.
    """
    found: dict[str, None] = {}
    for word in words:
        if "--" not in word or word in nodes or _interface(word, nodes) is not None:
            found[word] = None
            continue
        ends = _ends(word, nodes)
        if not ends:
            links = sorted({"--".join(sorted((end, peer))) for end, peer in _links(nodes)})
            from difflib import get_close_matches

            close = get_close_matches(word, links, n=1, cutoff=0.5)
            hint = f"did you mean {close[0]}?" if close else f"its links: {', '.join(links[:12])}"
            raise UsageError(f"the lab {lab} has no link {word}", hint=hint)
        found.update(dict.fromkeys(ends))
    return list(found)


def _interface(word: str, nodes: Mapping[str, Any]) -> Any:
    node, _, interface = word.partition(":")
    return nodes.get(node, {}).get("interfaces", {}).get(interface)


def _links(nodes: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for node, facts in nodes.items():
        for interface, details in facts["interfaces"].items():
            if details["peer"]:
                yield f"{node}:{interface}", details["peer"]


def _ends(word: str, nodes: Mapping[str, Any]) -> list[str]:
    """All ends of all links between what stands left and right of `--`; names may have two hyphens in them too."""
    ends: list[str] = []
    at = word.find("--")
    while at > 0:
        left, right = word[:at], word[at + 2 :]
        for end, peer in _links(nodes):
            if left in {end, end.partition(":")[0]} and right in {peer, peer.partition(":")[0]}:
                ends += [end, peer]
        at = word.find("--", at + 1)
    return ends


def _ready(recorder: Recorder, nodes: Mapping[str, Any]) -> int:
    try:
        return recorder.wait_ready()
    except UsageError as error:
        from difflib import get_close_matches

        known = [*nodes, *(end for end, _peer in _links(nodes))]
        asked = error.message.rpartition(" at ")[2].split(", ")[0]
        close = get_close_matches(asked, known, n=1)
        raise UsageError(error.message, hint=f"did you mean {close[0]}?" if close else error.hint) from None


# Where it goes


@dataclass
class _Target:
    """Where a recording goes: a descriptor, words for a person, and Wireshark if that is it."""

    fd: int
    into: str = ""
    process: subprocess.Popen[bytes] | None = None

    def release(self) -> None:
        """The recorder has it now: only then does Wireshark see the end of the recording."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


@contextlib.contextmanager
def _target(options: argparse.Namespace) -> Iterator[_Target]:
    target = open_wireshark() if options.wireshark else _open(options)
    try:
        yield target
    finally:
        target.release()


def _open(options: argparse.Namespace) -> _Target:
    if options.write == "-":
        if os.isatty(1):
            raise UsageError("a capture is no text for a terminal", hint="-w FILE, or -w - | COMMAND")
        return _Target(_standard_output())
    name = options.write or f"{options.lab}-{time.strftime('%Y%m%d-%H%M%S')}.pcapng"
    if options.files:
        return _Target(os.open(os.devnull, os.O_WRONLY))  # the recorder opens its files
    try:
        new = os.O_TRUNC if options.write else os.O_EXCL
        return _Target(
            os.open(name, os.O_WRONLY | os.O_CREAT | new, 0o644), "" if options.write else f" into {one_line(name)}"
        )
    except OSError as error:
        raise CommandFailed(f"cannot write {name}: {error.strerror}") from None


def _standard_output() -> int:
    """Standard output, opened anew where it is a pipe: the recorder makes it non-blocking, and others may share it."""
    with contextlib.suppress(OSError):
        return os.open("/proc/self/fd/1", os.O_WRONLY | os.O_NONBLOCK)
    return os.dup(1)


def open_wireshark() -> _Target:
    """Start Wireshark on the reading end of a pipe.

    Raises:
        MachineError: there is none, or it cannot be started.
    """
    program = shutil.which("wireshark")
    if program is None:
        raise MachineError("there is no program wireshark", hint=tools.package_hint(["wireshark"]))
    from emulator.commands.wireshark import profile_arguments

    reading, writing = os.pipe2(os.O_CLOEXEC)
    try:
        # A session of its own: Ctrl-C ends the recording, and what was recorded stays open.
        process = subprocess.Popen(
            [program, "-k", "-i", "-", *profile_arguments()], stdin=reading, start_new_session=True
        )
    except OSError as error:
        os.close(writing)
        raise MachineError(f"cannot start {program}: {error.strerror}") from None
    finally:
        os.close(reading)
    return _Target(writing, " for Wireshark", process)


# While it runs


@contextlib.contextmanager
def stop_signals() -> Iterator[int]:
    """A descriptor that is readable when this process was asked to end."""
    reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(writing)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    try:
        yield reading
    finally:
        signal.set_wakeup_fd(-1)
        os.close(reading)
        os.close(writing)


def follow(recorder: Recorder, wake: int, tell: Callable[[Mapping[str, Any]], None]) -> Figures:
    """Wait for the end of a recording, and end it when `wake` is readable.

    Args:
        tell: called with what the recorder says on the way: `{"progress": …}`, `{"trouble": …}`.

    Raises:
        CommandFailed: it failed, or was killed.
    """
    asked = False
    while True:
        if not recorder.pending():
            says = recorder.fileno()
            ready, _, _ = select.select([says] if asked else [says, wake], [], [])
            if wake in ready:
                recorder.ask_to_stop()
                asked = True
            if says not in ready:
                continue
        message = recorder.message()
        if "progress" in message or "trouble" in message:
            tell(message)
        elif message:
            return recorder.figures(message)
        else:
            recorder.close()
            raise CommandFailed("the recorder was killed", hint="what it wrote until then can be read")


def _show(message: Mapping[str, Any], counter: Counter | None) -> None:
    if "trouble" in message:
        if counter:
            counter.wipe()
        print(one_line(f"wirelab: {message['trouble']}"), file=sys.stderr)
    elif counter:
        counter.show(message["progress"])


class Counter:
    """The figures of a running recording in one line of a terminal."""

    def show(self, progress: Mapping[str, Any]) -> None:
        """Show them in place of those before."""
        dropped = f"{progress['dropped']:,} lost" if progress["dropped"] else "none lost"
        line = f"{progress['packets']:,} packets, {progress['octets']:,} octets, {dropped}, {progress['seconds']:.0f} s"
        sys.stderr.write(f"\r\x1b[K{line[: shutil.get_terminal_size().columns - 1]}")
        sys.stderr.flush()

    def wipe(self) -> None:
        """Take the line away."""
        sys.stderr.write("\r\x1b[K")
        sys.stderr.flush()


def summary(figures: Figures) -> list[str]:
    """What a recording brought, in lines for a person. Loss is told with its places."""
    why = f"{ENDINGS[figures.why]}: " if figures.why in ENDINGS else ""
    packets = f"{figures.received:,} packet{'' if figures.received == 1 else 's'}"
    if not figures.dropped:
        return [f"{why}{packets}, none lost"]
    worst = sorted(figures.lost.items(), key=lambda entry: -entry[1])
    named = ", ".join(f"{one_line(name)} {count:,}" for name, count in worst[:5]) + (", …" if len(worst) > 5 else "")
    return [
        f"{why}{packets}, {figures.dropped:,} of them lost: the recorder was too slow",
        f"  lost at: {named}",
        "  hint: record fewer places, or less of what passes there (-f FILTER)",
    ]
