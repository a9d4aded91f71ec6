"""Versions of the kernel and of the programs that labs run, asked from themselves. Standard library only."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from typing import IO

from emulator.errors import printable
from emulator.run.spawn import PATH
from emulator.run.tools import find

_ASK: Mapping[str, tuple[str, ...]] = {
    "arping": ("-V",),
    "bridge": ("-V",),
    "dig": ("-v",),
    "ip": ("-V",),
    "ldns-keygen": ("-v",),
    "ldns-signzone": ("-v",),
    "nsd": ("-v",),
    "ping": ("-V",),
    "socat": ("-V",),
    "ss": ("-V",),
    "tc": ("-V",),
    "unbound": ("-V",),
    "openssl": ("version",),
    "unbound-control": ("-h",),
    "busybox": (),
    "udhcpc": ("--help",),
}
"""Program → the arguments that make it tell its version; all others understand `--version`."""

_TIMEOUT_S = 10.0
_CHARACTERS = 160
_LOOKS = (re.compile(r"\bversion\b.*\d", re.IGNORECASE), re.compile(r"\d+\.\d+"), re.compile(r"\d"))
"""What a line with a version looks like, the surest first."""


def versions(programs: Iterable[str]) -> dict[str, str]:
    """Name → version of the kernel, of Python, and of each of `programs`, asked all at the same time.

    A program that this machine lacks or that does not tell has the value "not there" or "unknown".
    """
    machine = platform.uname()
    found = {
        "kernel": f"{machine.system} {machine.release} {machine.version} {machine.machine}",
        "python": platform.python_version(),
        "system": _system(),
    }
    asked: dict[str, subprocess.Popen[bytes]] = {}
    with contextlib.ExitStack() as stack:
        for program in sorted(set(programs)):
            path = find(program)
            if path is None:
                found[program] = "not there"
                continue
            output = stack.enter_context(tempfile.TemporaryFile())
            with contextlib.suppress(OSError):
                asked[program] = stack.enter_context(
                    subprocess.Popen(
                        [path, *_ASK.get(program, ("--version",))],
                        stdin=subprocess.DEVNULL,
                        stdout=output,
                        stderr=subprocess.STDOUT,
                        cwd="/",
                        env={"PATH": PATH, "LANG": "C.UTF-8"},
                    )
                )
            found[program] = "unknown"
            stack.callback(_note, found, program, output)
        for process in asked.values():
            try:
                process.wait(_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
    return found


def _note(found: dict[str, str], program: str, output: IO[bytes]) -> None:
    """Of what a program said, the first line that looks most like a version."""
    output.seek(0)
    lines = [line.strip() for line in output.read(65536).decode(errors="replace").splitlines() if line.strip()]
    told = next((line for looks in _LOOKS for line in lines if looks.search(line)), None)
    if told:
        found[program] = printable(told)[:_CHARACTERS]


def _system() -> str:
    with contextlib.suppress(OSError):
        return platform.freedesktop_os_release().get("PRETTY_NAME", os.name)
    return "unknown"
