"""The command line by a process that has everything imported already, and is copied for each command.

What commands do and say is the same; they only begin sooner, since nothing is imported. It is for tests that are marked
`warm`: those of modules in which commands are many, and not how they begin. (That a fresh interpreter does the same,
all other tests show.)
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import select
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import IO, Any

from tests.conftest import Person

_SERVER = """
import importlib, json, os, sys

for name in sys.argv[1:]:
    importlib.import_module("emulator." + name)
from emulator.door import main

requests, answers = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")
os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
for line in requests:
    number, words, out, err = json.loads(line)
    child = os.fork()
    if not child:
        status = 99
        try:
            for stream, file in ((1, out), (2, err)):
                os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), stream)
            sys.argv[1:] = words
            try:
                status = main()
            except SystemExit as end:
                status = end.code
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(status)
    print(number, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), file=answers, flush=True)
"""
_MODULES = (
    "capture.decode", "cli", "commands.consent", "commands.deputy", "commands.lifecycle", "commands.progress",
    "commands.proof", "controller", "kept", "lab.load", "observe", "plan.compile", "reach.capacity", "reach.tester",
    "report.json", "report.pairs", "report.text", "run.building", "run.faults", "run.runs", "run.session",
    "verify.folder", "verify.judge",
)  # fmt: skip


_numbers = itertools.count()


@dataclass(frozen=True, kw_only=True)
class Warm(Person):
    """Somebody whose commands begin at once; what is not run by `wirelab` or `json` is as of any `Person`."""

    server: subprocess.Popen[str]
    served: Person
    """Whom the process belongs to: one that is made of this person, with another environment, begins as all do."""

    def wirelab(self, *words: str, status: int | None = 0, **options: Any) -> subprocess.CompletedProcess[str]:
        """See `Person.wirelab`."""
        patience_s = options.pop("timeout", 120)
        if options or any(getattr(self, part.name) != getattr(self.served, part.name) for part in fields(Person)):
            return super().wirelab(*words, status=status, timeout=patience_s, **options)
        number = next(_numbers)
        files = [self.home / f"warm-{self.server.pid}-{number}.{name}" for name in ("out", "err")]
        requests, answers = _pipes(self.server)
        requests.write(json.dumps([number, words, *map(str, files)]) + "\n")
        requests.flush()
        answered, ended = -1, 0
        while answered != number:  # it may still answer to a test that was given up
            assert select.select([answers], [], [], patience_s)[0], f"no answer to {words}"
            said = os.read(answers.fileno(), 4096).decode().splitlines()  # not by a buffer, which `select` does not see
            answered, ended = map(int, said[-1].split())
        out, err = map(_taken, files)
        assert "Traceback" not in out + err, err
        assert status is None or ended == status, f"exit status {ended} of: {' '.join(words)}\n{out}\n{err}"
        return subprocess.CompletedProcess(words, ended, out, err)


def _pipes(server: subprocess.Popen[str]) -> tuple[IO[str], IO[str]]:
    assert server.stdin is not None
    assert server.stdout is not None
    return server.stdin, server.stdout


def _taken(file: Path) -> str:
    text = file.read_text()
    file.unlink()
    return text


@contextlib.contextmanager
def warm(person: Person) -> Iterator[Warm]:
    """Such a process, until the end of the block."""
    argv = [person.python, "-c", _SERVER, *_MODULES]
    server = person.popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
    try:
        yield Warm(**vars(person), server=server, served=person)
    finally:
        _pipes(server)[0].close()
        try:
            assert server.wait(60) == 0
        finally:
            server.kill()
            server.wait()
            _pipes(server)[1].close()
