"""`wirelab up`."""

from __future__ import annotations

import contextlib
import os
import sys
import time

from emulator.errors import WirelabError, counted, printable

TYPE_CHECKING = False  # the module `typing` costs milliseconds
if TYPE_CHECKING:
    import argparse
    from typing import NoReturn

    from emulator.controller import RunningLab
    from emulator.events import Bus
    from emulator.lab.resolved import ResolvedLab


def up(options: argparse.Namespace) -> NoReturn:
    """Bring a lab up and leave it running."""
    from emulator import controller
    from emulator.commands.consent import agreements

    began = time.monotonic()
    if options.topology is not None:
        _say_note(options.topology)
    with _progress() as bus:
        lab = controller.up(
            options.lab,
            topology=options.topology,
            name=options.name,
            bus=bus,
            backend=options.backend,
            **agreements(options),
        )
    _leave(lab, began, as_json=options.json)


def up_topology(words: str, name: str | None) -> NoReturn:
    """The same as `up` with the options `--topology` and `--name` alone, sooner: the lab's first process starts while
    this one is still importing.

    Args:
        words: of a topology, whose numbers are written as in the name of its lab: `single,10`, not `single,010`.
    """
    from emulator.run.starting import Start

    began = time.monotonic()
    try:
        start = Start(name or words.replace(",", "-"))
    except WirelabError:
        start = None  # is said below, unless more is wrong
    with start or contextlib.nullcontext():
        from emulator import controller

        _say_note(words)
        with _progress() as bus:
            if start is None:
                lab = controller.up(topology=words, name=name, bus=bus)
            else:
                lab = controller.up_begun(start, words, bus=bus)
        _leave(lab, began)


def _say_note(topology: str) -> None:
    from emulator.lab.generate import note

    if told := note(topology):
        print(f"{topology}: {told}", file=sys.stderr)


def _progress() -> contextlib.AbstractContextManager[Bus]:
    if sys.stderr.isatty():
        from emulator.commands.progress import progress

        return progress()
    from emulator.events import Bus

    return contextlib.nullcontext(Bus())


def warn(lab: ResolvedLab) -> None:
    """Say on standard error when the lab's own traffic may need more of the machine than there is."""
    from emulator.reach.capacity import warnings

    for told in warnings(lab):
        print(printable(f"wirelab: {told}"), file=sys.stderr)


def _leave(lab: RunningLab, began: float, *, as_json: bool = False) -> NoReturn:
    """Say that the lab is up, and leave it. That is the last act of `up`: until it the lab would end with this process,
    and after it nothing is left to do here. So wherever `up` is killed, either it has done its work or nothing is left
    of it."""
    seconds = time.monotonic() - began
    warn(lab.lab)
    if as_json:
        import json

        from emulator.run import runs

        facts = runs.facts(lab.directory)
        facts.pop("text")
        text = json.dumps({"name": lab.name, **facts})
    else:
        counts = {"node": lab.lab.nodes, "link": lab.lab.links, "service": lab.services()}
        parts = ", ".join(counted(len(things), noun) for noun, things in counts.items())
        text = f"{lab.name} is up: {parts}, {seconds:.1f} s"
    try:
        print(text, flush=True)
    except BrokenPipeError:
        pass  # whoever reads has gone; the lab was asked for all the same
    lab.leave()
    os._exit(0)
