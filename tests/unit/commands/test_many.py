"""`wirelab verify` of several labs, with small programs in the place of the processes that verify one."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from emulator.cli import parser
from emulator.commands import many
from emulator.commands.many import Job, prove_all, wanted
from emulator.errors import UsageError
from emulator.events import Bus, Event
from emulator.report.json import as_dict
from emulator.verify.verdict import Report, Result, Verdict

REPORT = as_dict(Report("x", (Result("c", "network", Verdict.PASS, "seen"),), 1.0))
FAILED = as_dict(Report("x", (Result("c", "network", Verdict.FAIL, "not seen"),), 1.0))


def job(name: str) -> Job:
    return Job(name, Path(f"/labs/{name}/lab.yml"))


def says(*messages: object, then: str = "") -> list[str]:
    """The command line of a program that says these messages."""
    lines = "\n".join(json.dumps(message) for message in messages)
    return [sys.executable, "-c", f"import os, sys, time, signal\nprint({lines!r}, flush=True)\n{then}"]


def options(*words: str) -> argparse.Namespace:
    return parser().parse_args(["verify", *words])


def test_outcomes_keep_the_order_of_the_labs() -> None:
    waits = {"a": 0.4, "b": 0.0, "c": 0.1}
    outcomes = prove_all(
        [job(name) for name in waits],
        at_once=3,
        argv=lambda job: says({"report": {**REPORT, "lab": job.lab}}, then=f"time.sleep({waits[job.lab]})"),
    )
    assert [outcome.lab for outcome in outcomes] == ["a", "b", "c"]
    assert [outcome.report.lab for outcome in outcomes if outcome.report] == ["a", "b", "c"]
    assert all(outcome.success for outcome in outcomes)


@pytest.mark.parametrize("at_once", [1, 2, 5])
def test_so_many_at_a_time(tmp_path: Path, at_once: int) -> None:
    """Each program leaves a file while it runs, and tells how many it sees."""
    code = (
        f"import os, time, json\nopen('{tmp_path}/%s' % os.getpid(), 'w').close()\n"
        f"time.sleep(0.2)\nprint(json.dumps({{'error': str(len(os.listdir('{tmp_path}'))), 'status': 1}}))\n"
        f"os.unlink('{tmp_path}/%s' % os.getpid())"
    )
    jobs = [job(str(number)) for number in range(5)]
    outcomes = prove_all(jobs, at_once=at_once, argv=lambda _: [sys.executable, "-c", code])
    assert max(int(outcome.error) for outcome in outcomes) <= at_once


def test_what_can_become_of_a_lab() -> None:
    programs = {
        "good": says({"stage": "up", "done": 1, "total": 2}, {"report": REPORT}),
        "bad": says({"report": FAILED}),
        "lacks": says(
            {"error": "this machine lacks nsd\n  hint: apt-get install nsd", "status": 3}, then="sys.exit(3)"
        ),
        "killed": says({"stage": "up", "done": 0, "total": 0}, then="os.kill(os.getpid(), 9)"),
        "silent": says(then="sys.stderr.write('no room')\nsys.exit(7)"),
        "odd": says([1], "text", {"report": {"lab": 1}}, then="print('not JSON')"),
    }
    outcomes = {
        outcome.lab: outcome
        for outcome in prove_all([job(name) for name in programs], at_once=2, argv=lambda job: programs[job.lab])
    }
    assert outcomes["good"].success
    assert not outcomes["bad"].success
    assert outcomes["bad"].report
    assert (outcomes["lacks"].status, outcomes["lacks"].report) == (3, None)
    assert outcomes["lacks"].error.startswith("this machine lacks nsd")
    assert outcomes["killed"].error == "its process was killed by signal 9 without a report"
    assert outcomes["silent"].error == "its process ended with status 7 without a report\nno room"
    assert outcomes["odd"].error == "its process ended with status 0 without a report"
    assert {name: outcome.status for name, outcome in outcomes.items() if outcome.report is None} == {
        "lacks": 3, "killed": 1, "silent": 1, "odd": 1,
    }  # fmt: skip


def test_progress_tells_who_runs_and_what_came_of_the_others() -> None:
    bus = Bus()
    events: list[Event] = []
    bus.listen(events.append)
    prove_all(
        [job("a"), job("b")],
        at_once=1,
        argv=lambda job: says({"stage": "verify", "done": 2, "total": 7}, {"report": FAILED}, then="time.sleep(0.1)"),
        bus=bus,
    )
    lines = [f"{event.stage} {event.done}/{event.total} {event.text}" for event in events]
    assert lines[0] == "verify 0/2 0 passed, 0 failed; a"
    assert "verify 0/2 0 passed, 0 failed; a verify 2/7" in lines
    assert "verify 1/2 0 passed, 1 failed; b" in lines


def wait_for(file: Path, lines: int) -> None:
    deadline = time.monotonic() + 20
    while not file.exists() or len(file.read_text().splitlines()) < lines:
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("stubborn", [False, True])
def test_leaving_early_ends_every_process(tmp_path: Path, stubborn: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each program is asked to end, and does something first; one that does not end is killed."""
    monkeypatch.setattr(many, "_DOWN_S", 0.5 if stubborn else 15)
    log = tmp_path / "log"
    code = (
        f"import os, signal, sys, time\nlog = open({str(log)!r}, 'a', buffering=1)\n"
        "def end(*_):\n    log.write('down\\n')\n"
        f"    {'pass' if stubborn else 'sys.exit(143)'}\n"
        "signal.signal(signal.SIGTERM, end)\nlog.write(f'{os.getpid()}\\n')\n"
        "while True:\n    time.sleep(1)\n"
    )

    bus = Bus()

    def leave(event: Event) -> None:
        if "; a; b" in event.text:
            wait_for(log, 2)
            raise KeyboardInterrupt

    bus.listen(leave)
    with pytest.raises(KeyboardInterrupt):
        prove_all([job(name) for name in "abc"], at_once=2, argv=lambda _: [sys.executable, "-c", code], bus=bus)
    lines = log.read_text().splitlines()
    assert lines.count("down") == 2
    for pid in (int(line) for line in lines if line != "down"):
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_a_program_that_talks_on_is_no_obstacle(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is written to a pipe that nobody reads any more must not hold the end up."""
    talk = "signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))\nwhile True: print('x' * 4096)"
    bus = Bus()

    def leave(event: Event) -> None:
        if event.text.endswith("up"):
            raise KeyboardInterrupt

    bus.listen(leave)
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        prove_all([job("a")], at_once=1, argv=lambda _: says({"stage": "up", "total": 0}, then=talk), bus=bus)
    assert time.monotonic() - began < 10


def test_the_labs_that_are_asked_for(labs_folder: Path) -> None:
    jobs = wanted(options("nat", str(labs_folder / "nat"), "--jobs", "2"))
    assert jobs == [Job("nat", labs_folder / "nat" / "lab.yml"), Job(str(labs_folder / "nat"), jobs[0].file)]
    shipped = wanted(options("--all"))
    assert {job.file for job in shipped} == set(labs_folder.glob("*/lab.yml"))
    assert all(job.lab == job.file.parent.name for job in shipped)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "which lab"),
        (["--all", "nat"], "no LAB goes with it"),
        (["--all", "--break", "hub"], "`--break` breaks one lab"),
        (["nat", "nat", "--break", "hub"], "`--break` breaks one lab"),
        (["--all", "-w", "x"], "`-w` keeps the capture of one lab"),
        (["nat", "nat", "-w", "x"], "`-w` keeps the capture of one lab"),
        (["nat", "natt"], "there is no lab 'natt'"),
    ],
)
def test_what_does_not_go_together(words: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        wanted(options(*words))


@pytest.mark.parametrize("text", ["0", "-1", "x", "1.5", ""])
def test_jobs_is_a_number(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        options("nat", f"--jobs={text}")
    assert caught.value.code == 2
    assert "at least 1" in capsys.readouterr().err


def test_a_process_without_its_parent_does_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process that started it ended before it could ask to be told."""
    asked: list[int] = []
    monkeypatch.setattr(many.kernel, "die_with_parent", asked.append)
    monkeypatch.setattr(sys, "argv", ["-c", "/nowhere", str(os.getppid() + 1)])
    assert many.prove() == 1
    assert asked == [signal.SIGKILL]
