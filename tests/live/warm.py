"""The command line by a process that has everything imported already, and is copied for each command.

What commands do and say is the same; they only begin sooner, since nothing is imported. It is for
tests that verify labs again and again. (That a fresh interpreter does the same, all other tests show.)
"""

from __future__ import annotations

import contextlib
import json
import select
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
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
    words, out, err = json.loads(line)
    child = os.fork()
    if not child:
        status = 99
        try:
            for number, file in ((1, out), (2, err)):
                os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), number)
            sys.argv[1:] = words
            status = main()
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(status)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), file=answers, flush=True)
"""
_MODULES = (
    "capture.decode", "cli", "commands.consent", "commands.deputy", "commands.progress", "commands.proof", "controller",
    "kept", "lab.load", "observe", "plan.compile", "reach.capacity", "report.json", "run.building", "run.session",
    "verify.folder", "verify.judge",
)  # fmt: skip


@dataclass(frozen=True)
class Warm:
    """Somebody whose commands begin at once."""

    person: Person
    server: subprocess.Popen[str]

    def wirelab(self, *words: str, status: int | None = 0) -> subprocess.CompletedProcess[str]:
        """See `Person.wirelab`."""
        files = [self.person.home / f"warm-{self.server.pid}.{name}" for name in ("out", "err")]
        requests, answers = _pipes(self.server)
        requests.write(json.dumps([words, *map(str, files)]) + "\n")
        requests.flush()
        assert select.select([answers], [], [], 120)[0], f"no answer to {words}"
        ended = int(answers.readline())
        out, err = map(_taken, files)
        assert "Traceback" not in err, err
        assert status is None or ended == status, f"exit status {ended} of: {' '.join(words)}\n{out}\n{err}"
        return subprocess.CompletedProcess(words, ended, out, err)

    def json(self, *words: str, status: int | None = 0) -> Any:
        """See `Person.json`."""
        return json.loads(self.wirelab(*words, "--json", status=status).stdout)


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
        yield Warm(person, server)
    finally:
        _pipes(server)[0].close()
        try:
            assert server.wait(60) == 0
        finally:
            server.kill()
            server.wait()
            _pipes(server)[1].close()
