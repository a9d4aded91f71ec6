"""The story of a command or of a capture file: recorded or read, told, and printed."""

from __future__ import annotations

import argparse
import gc
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from emulator.commands.writing import write
from emulator.errors import UsageError, one_line, printable

if TYPE_CHECKING:
    from emulator.capture.frame import Frame
    from emulator.controller import RunningLab
    from emulator.explain.story import Narrator, Story
    from emulator.explain.surroundings import Surroundings
    from emulator.explain.telling import Telling
    from emulator.flows.connection import Row

Summary = Callable[[Sequence["Row"], int], str]
"""The list of connections as text."""

_INDENTED = 10_000
"""JSON of captures with more frames is on one line: laying it out takes longer than to tell the story."""

_WIDTH = 100
"""Columns where there is no terminal."""


def of_command(options: argparse.Namespace) -> int:
    """Run a command on a node of a running lab, and tell what happened on the wire."""
    from emulator import controller
    from emulator.explain.story import tell
    from emulator.watch import Watched, watch

    if options.follow and options.json:
        raise UsageError("--follow tells in words, --json at the end", hint="choose one of them")
    lab = controller.attach(options.lab)
    try:
        _must_have(lab, options.lab, options.node)
        capture = Path(options.write) if options.write else lab.directory / "explain.pcapng"
        wanted = Watched(options.node, tuple(options.argv), options.timeout, _here())
        follower = _Follower() if options.follow else None
        recording = watch(lab.lab, lab.session, lab.directory, wanted, capture, follower)
    finally:
        lab.close()
    return _show(tell(recording), options, options.lab, follower)


def of_file(options: argparse.Namespace, summary: Summary) -> int:
    """Tell what a capture file holds."""
    from emulator.capture.decode import decode
    from emulator.capture.pcapng import read
    from emulator.explain.story import Recording, tell
    from emulator.explain.surroundings import of_capture

    if options.follow:
        raise UsageError("a capture file is told at once; --follow is for a command")
    gc.disable()  # millions of small objects that all stay: looking for cycles among them takes longer than the story
    capture = read(options.pcap)
    decoded = decode(capture.packets, capture.interfaces, encode=False)
    frames = sorted(decoded, key=lambda frame: frame.time_ns)
    around = of_capture(capture.interfaces, frames, capture.names)
    story = tell(Recording(frames, capture.interfaces, around, truncated=capture.truncated))
    status = _show(story, options, options.pcap)
    if not options.json:
        sys.stdout.write("\n" + summary(story.rows, len(frames)))
        if capture.truncated:
            print(f"wirelab: {one_line(options.pcap)} was read up to {one_line(capture.truncated)}", file=sys.stderr)
    return status


def _must_have(lab: RunningLab, name: str, node: str) -> None:
    if node in lab.lab.nodes:
        return
    from difflib import get_close_matches

    close = get_close_matches(node, lab.lab.nodes, n=1)
    hint = f"did you mean {close[0]}?" if close else f"its nodes: {', '.join(lab.lab.nodes)}"
    raise UsageError(f"the lab {name} has no node {node}", hint=hint)


def _here() -> str:
    try:
        return os.getcwd()
    except OSError:
        return "/"


def _width() -> int:
    return shutil.get_terminal_size((_WIDTH, 24)).columns if sys.stdout.isatty() else _WIDTH


class _Follower:
    """Prints each exchange as soon as it is complete."""

    def __init__(self) -> None:
        self._narrator: Narrator | None = None
        self._zero_ns = 0

    def __call__(self, frames: Sequence[Frame], around: Surroundings, began_ns: int) -> None:
        from emulator.explain.story import Narrator

        if self._narrator is None:
            self._narrator = Narrator(around, began_ns)
            self._zero_ns = began_ns
        self._print(self._narrator.hear(frames, time.time_ns()), began_ns)

    def rest(self, story: Story) -> None:
        """Print what was not complete until the end."""
        told = self._narrator.told if self._narrator else set()
        self._print([telling for telling in story.tellings if telling.number not in told], self._zero_ns)

    @staticmethod
    def _print(tellings: Sequence[Telling], zero_ns: int) -> None:
        from emulator.report.explain_text import exchange

        for telling in tellings:
            lines = exchange(telling, zero_ns, depth=0, width=_width(), colour=sys.stdout.isatty())
            print("\n".join(lines), flush=True)


def _show(story: Story, options: argparse.Namespace, source: str, follower: _Follower | None = None) -> int:
    from emulator.report.explain_json import as_dict
    from emulator.report.explain_text import ending, heading, render

    colour = sys.stdout.isatty()
    if options.html:
        from emulator.report.explain_html import render as as_page

        write(options.html, as_page(story))
    if options.json:
        key = "file" if options.pcap else "lab"
        small = len(story.recording.frames) < _INDENTED
        print(json.dumps({key: source, **as_dict(story)}, indent=2 if small else None))
        return 0
    if follower is not None:
        follower.rest(story)
        print()
    command = story.recording.command
    if command is not None:
        for text in (command.stdout, command.stderr):
            if text:
                sys.stdout.write(printable(text if text.endswith("\n") else text + "\n"))
        if command.stdout or command.stderr:
            print()
    if follower is not None:
        lines = [*heading(story, width=_width(), colour=colour), *ending(story, width=_width(), colour=colour)]
        print("\n".join(lines))
    else:
        sys.stdout.write(render(story, width=_width(), colour=colour))
    return 0
