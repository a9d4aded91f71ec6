"""`wirelab verify` of several labs: one process a lab, several at a time, one report.

A process enters the namespaces of its lab, so each lab has a process of its own. It runs `prove`, and says on its
standard output, in lines of JSON, how far it is and at last what it found. It ends with the process that started it,
however that ends, and its lab with it.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import re
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emulator.errors import EXIT_FAILED, RightsLacking, UsageError, WirelabError, render
from emulator.events import Bus, Event
from emulator.kept import Keeping
from emulator.report.json import as_dict, from_dict
from emulator.report.many import Outcome, as_data, count, exit_status
from emulator.report.many import render as as_text
from emulator.run import kernel, runs
from emulator.verify.verdict import Verdict

if TYPE_CHECKING:
    from emulator.lab.nodes import Backend

_DOWN_S = 15.0
"""A lab that is taken down has this long before its process is killed, with which it ends all the same."""


@dataclass(frozen=True)
class Job:
    """A lab to verify: its name for people, its file, and the folder that the verification is kept in, if any."""

    lab: str
    file: Path
    keep: str = ""
    allow_binds: bool = False
    allow_caps: bool = False


def verify(options: argparse.Namespace) -> int:
    """Prove several labs, each in an instance of its own."""
    from emulator.commands.progress import progress

    jobs = wanted(options)
    began = time.monotonic()
    argv = partial(_argv, backend=options.backend)
    with progress() as bus, contextlib.ExitStack() as stack:
        if options.keep:
            place = stack.enter_context(Keeping(options.keep))
            jobs = _kept_apart(jobs, place)
        outcomes = prove_all(jobs, at_once=options.jobs or len(os.sched_getaffinity(0)), argv=argv, bus=bus)
        if options.keep:
            _finish(place, jobs)
    return _show(options, outcomes, time.monotonic() - began)


def replay(options: argparse.Namespace, labs: Sequence[tuple[str, Path]]) -> int:
    """Judge again what is kept of several labs."""
    from emulator import kept

    began = time.monotonic()
    outcomes = []
    for lab, folder in labs:
        try:
            outcomes.append(Outcome(lab, kept.replay(folder, note=partial(_note, lab)).report))
        except WirelabError as error:
            text = render(error).removeprefix("wirelab: ")
            outcomes.append(Outcome(lab, error=text, status=error.exit_status))
    return _show(options, outcomes, time.monotonic() - began)


def _note(lab: str, text: str) -> None:
    from emulator.commands.proof import note

    note(f"{lab}: {text}")


def _kept_apart(jobs: Sequence[Job], place: Keeping) -> list[Job]:
    """The same jobs, each with a sub folder of its own."""
    taken: set[str] = set()
    result = []
    for job in jobs:
        name = (job.file.parent if job.file.name == "lab.yml" else job.file).stem
        word = re.sub(r"[^A-Za-z0-9_-]", "-", name)[:60].strip("-") or "lab"
        candidates = itertools.chain([word], (f"{word}-{number}" for number in itertools.count(2)))
        folder = next(name for name in candidates if name not in taken)
        taken.add(folder)
        result.append(replace(job, keep=str(place.folder / folder)))
    return result


def _finish(place: Keeping, jobs: Sequence[Job]) -> None:
    """Write the index, and give the folder its name."""
    from emulator import kept

    try:
        place.write(kept.INDEX, kept.index_octets([(job.lab, Path(job.keep).name) for job in jobs]))
    except OSError as error:
        raise place.failure(error) from None
    place.finish()


def _show(options: argparse.Namespace, outcomes: Sequence[Outcome], seconds: float) -> int:
    if options.json:
        print(json.dumps(as_data(outcomes, seconds), indent=2))
    else:
        terminal = sys.stdout.isatty()
        width = shutil.get_terminal_size((120, 24)).columns if terminal else 120
        sys.stdout.write(as_text(outcomes, seconds, width=width, colour=terminal))
    if options.junit:
        from emulator.commands.writing import write
        from emulator.report.junit import render_many

        write(options.junit, render_many(outcomes, seconds))
    return exit_status(outcomes)


def wanted(options: argparse.Namespace) -> list[Job]:
    """The labs that the command line asks for.

    Raises:
        UsageError: there is no such lab, or options do not go together.
    """
    if options.all and options.lab:
        raise UsageError("`--all` is every shipped lab: no LAB goes with it", hint="wirelab verify --all")
    if not options.all and not options.lab:
        raise UsageError("which lab?", hint="wirelab verify LAB…, or wirelab verify --all")
    if options.twin:
        raise UsageError("`--break` breaks one lab, not several", hint=f"wirelab verify LAB --break {options.twin}")
    if options.write:
        raise UsageError(
            "`-w` keeps the capture of one lab, not of several", hint=f"wirelab verify LAB -w {options.write}"
        )
    if options.all:
        jobs = [_job(options, folder.name, folder / "lab.yml") for folder in runs.sources()]
        if not jobs:
            raise UsageError("no labs are shipped here", hint="wirelab verify LAB…")
        return jobs
    from emulator.controller import source_of

    return [_job(options, target, source_of(target).absolute()) for target in options.lab]


def _job(options: argparse.Namespace, lab: str, file: Path) -> Job:
    return Job(lab, file, allow_binds=options.allow_binds, allow_caps=options.allow_caps)


def _argv(job: Job, *, backend: str) -> list[str]:
    root = str(Path(__file__).resolve().parents[2])
    code = f"import sys; sys.path.insert(0, {root!r}); from emulator.commands.many import prove; sys.exit(prove())"
    allowed = ",".join(name for name, yes in (("binds", job.allow_binds), ("caps", job.allow_caps)) if yes)
    words = [str(job.file), str(os.getpid()), backend, allowed, job.keep]
    return [sys.executable, "-c", code, *words]


def prove() -> int:
    """What the process of one lab does: verify the lab in the file `sys.argv[1]` for the process `sys.argv[2]` (0: for
    whoever started this one), with the backend `sys.argv[3]`, and with what `sys.argv[4]` allows (`binds,caps`), since
    nobody can be asked here; keep the verification in the folder `sys.argv[5]`, unless that is empty."""
    kernel.die_with_parent(signal.SIGKILL)
    if int(sys.argv[2]) not in (0, os.getppid()):
        return EXIT_FAILED
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    bus = Bus()
    bus.listen(lambda event: _say({"stage": event.stage, "done": event.done, "total": event.total}))
    from emulator import controller

    try:
        backend: Backend = "docker" if sys.argv[3] == "docker" else "netns"
        allowed = sys.argv[4].split(",")
        try:
            proof = controller.verify(
                sys.argv[1],
                keep=sys.argv[5] or None,
                fresh=True,
                bus=bus,
                backend=backend,
                allow_binds="binds" in allowed,
                allow_caps="caps" in allowed,
            )
        except RightsLacking as error:
            return _by_deputy(error)
        report = proof.report
    except WirelabError as error:
        _say({"error": render(error).removeprefix("wirelab: "), "status": error.exit_status})
        return error.exit_status
    except OSError as error:
        where = f" {error.filename}" if error.filename else ""
        _say({"error": f"{error.strerror or error}{where}", "status": EXIT_FAILED})
        return EXIT_FAILED
    except Exception as error:  # a boundary: a fault of ours with one lab is that lab's row, and the others go on
        if os.environ.get("WIRELAB_DEBUG"):
            raise
        _say({"error": f"a fault of Wirelab itself: {type(error).__name__}: {error}", "status": EXIT_FAILED})
        return EXIT_FAILED
    _say({"report": as_dict(report)})
    return 0


def _by_deputy(error: RightsLacking) -> int:
    if os.geteuid() == 0:
        raise error
    from emulator.commands import deputy, deputy_container

    words = [sys.argv[1], "0", *sys.argv[3:6]]
    return deputy_container.start(deputy.PROVE, words, name="verify", stays=False, extra=error.extra)


def _say(message: dict[str, Any]) -> None:
    octets = json.dumps(message).encode() + b"\n"
    with contextlib.suppress(BrokenPipeError):  # who asked was killed, and so is this process in a moment
        while octets:
            octets = octets[os.write(1, octets) :]


def prove_all(
    jobs: Sequence[Job], *, at_once: int, argv: Callable[[Job], list[str]], bus: Bus | None = None
) -> list[Outcome]:
    """Verify all labs, at most `at_once` at a time; the outcomes are in the order of `jobs`.

    When this is left early, by Ctrl-C or an error, every lab that runs is taken down first.

    Args:
        argv: the command line of the process that does a job, and says what `prove` says.
        bus: is told which labs run, how many are done, and the verdicts so far.
    """
    bus = bus or Bus()
    waiting = list(enumerate(jobs))[::-1]
    running: dict[int, _Process] = {}
    outcomes: dict[int, Outcome] = {}

    def tell() -> None:
        known = list(outcomes.values())
        counts = [f"{count(known, Verdict.PASS)} passed", f"{count(known, Verdict.FAIL)} failed"]
        if unknown := count(known, Verdict.UNKNOWN):
            counts.append(f"{unknown} unknown")
        if lacking := sum(outcome.report is None for outcome in known):
            counts.append(f"{lacking} not verified")
        busy = [process.text for process in running.values()]
        bus.emit(Event("verify", "; ".join([", ".join(counts), *busy]), len(known), len(jobs)))

    with selectors.DefaultSelector() as selector:
        try:
            while waiting or running:
                while waiting and len(running) < at_once:
                    number, job = waiting.pop()
                    running[number] = _Process(job, argv(job))
                    selector.register(running[number].output, selectors.EVENT_READ, number)
                tell()
                for key, _ in selector.select():
                    process = running[key.data]
                    if not process.read():
                        selector.unregister(process.output)
                        outcomes[key.data] = process.outcome()
                        del running[key.data]
        finally:
            _end(list(running.values()))
    return [outcomes[number] for number in range(len(jobs))]


class _Process:
    """The process that verifies one lab."""

    def __init__(self, job: Job, argv: list[str]) -> None:
        self.job = job
        self.text = job.lab
        self._began = time.monotonic()
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `outcome` or `end`
        self._process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            start_new_session=True,  # Ctrl-C reaches this process only, which takes the labs down one by one
        )
        if self._process.stdout is None:
            raise AssertionError("the process has a pipe")
        self.output = self._process.stdout
        self._rest = b""
        self._answer: dict[str, Any] = {}

    def read(self) -> bool:
        """Take in what the process said; false at its end."""
        octets = os.read(self.output.fileno(), 1 << 16)
        *lines, self._rest = (self._rest + octets).split(b"\n")
        for line in lines:
            with contextlib.suppress(ValueError):
                self._take(json.loads(line))
        return bool(octets)

    def _take(self, message: Any) -> None:
        if not isinstance(message, dict):
            return
        if "stage" in message:
            share = f" {message['done']}/{message['total']}" if message.get("total") else ""
            self.text = f"{self.job.lab} {message['stage']}{share}"
        else:
            self._answer = message

    def outcome(self) -> Outcome:
        """What became of the lab; waits for the end of the process."""
        status = self._process.wait()
        seconds = time.monotonic() - self._began
        said = self._last_words()
        self._close()
        try:
            if "report" in self._answer:
                return Outcome(self.job.lab, from_dict(self._answer["report"]), seconds=seconds)
            error, status = str(self._answer["error"]), int(self._answer["status"])
        except (KeyError, TypeError, ValueError):
            how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
            error, status = "\n".join(filter(None, (f"its process {how} without a report", said))), EXIT_FAILED
        return Outcome(self.job.lab, error=error, status=status, seconds=seconds)

    def _last_words(self) -> str:
        self._errors.seek(0)
        return self._errors.read().decode(errors="replace").strip()[-400:]

    def stop(self) -> None:
        """Ask the process to take its lab down."""
        self.output.close()  # what it says now is not read, and must not hold it up
        self._process.terminate()

    def wait(self, timeout_s: float) -> None:
        """Wait for the end of the process, at most so long."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout_s)

    def kill(self) -> None:
        """End the process; its lab ends with it."""
        self._process.kill()
        self._process.wait()
        self._close()

    def _close(self) -> None:
        self.output.close()
        self._errors.close()


def _end(processes: Sequence[_Process]) -> None:
    """Take down what still runs; when that is interrupted too, or takes too long, the processes are killed."""
    deadline = time.monotonic() + _DOWN_S
    try:
        for process in processes:
            process.stop()
        for process in processes:
            process.wait(max(0.0, deadline - time.monotonic()))
    finally:
        for process in processes:
            process.kill()
