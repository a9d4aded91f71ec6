"""The running labs of all users of this machine, for root. Standard library only.

What other users wrote is looked at with their own rights: for each user a process gives up root's, reads that user's
run directories, and ends, or is ended. So a link, a pipe, a file system of their own, or an endless file there can
give away nothing, change nothing, and hold nobody up. What that process says is checked again here.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import pwd
import selectors
import signal
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from emulator.errors import MachineError
from emulator.names import LAB_NAME
from emulator.run import runs
from emulator.run.control import Control, LabGone, is_alive

TIMEOUT_S: Final = 5.0
"""What one user's process may take; labs that are asked one after the other are answered in milliseconds."""

_NAMES = ("wirelab-keeper", "wirelab-init")
_FACTS_OCTETS_MAX = 16 << 20
_ANSWER_OCTETS_MAX = 4 << 20
_LABS_MAX = 1_000
"""Labs of one user that are shown."""
_TEXT_MAX = 200
_NOBODY = 65534


def labs() -> tuple[list[dict[str, Any]], list[str]]:
    """The labs of everybody, by user and name, and what could not be seen and why.

    A lab is `uid`, `user`, `name`, `lab`, `started`, `nodes`, `services` (running), `failed` (ended), `pid` (of the
    lab's first process) and `directory`.

    Raises:
        MachineError: the caller is not root.
    """
    if os.geteuid() != 0:
        raise MachineError("only root can see the labs of all users", hint="sudo wirelab ps --all-users")
    found: list[dict[str, Any]] = []
    troubles: list[str] = []
    answers = _ask({uid: _start(uid) for uid in _users()})
    for uid, octets in sorted(answers.items()):
        user = _user_name(uid)
        if octets is None:
            troubles.append(f"the labs of {user} cannot be seen: reading them took longer than {TIMEOUT_S:g} s")
            continue
        try:
            rows = json.loads(octets)
            if not isinstance(rows, list):
                raise ValueError("not a list")
        except (ValueError, RecursionError):
            troubles.append(f"the labs of {user} cannot be seen: reading them failed")
            continue
        found += sorted(filter(None, (_checked(row, uid, user) for row in rows)), key=lambda row: row["name"])
    return found, troubles


def _users() -> set[int]:
    """Who has labs: root, and every owner of a process that calls itself a lab's."""
    return {0} | {uid for uid, _ in _processes()}


def _processes() -> Iterator[tuple[int, int]]:
    """User and process id of every process that calls itself a lab's keeper or first process."""
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError), open(f"/proc/{name}/comm", encoding="utf-8", errors="replace") as comm:
                if comm.read().strip() in _NAMES:
                    yield os.stat(f"/proc/{name}").st_uid, int(name)


def _start(uid: int) -> tuple[int, int]:
    """A process that writes the labs of `uid` as JSON: its id, and the pipe that it writes to."""
    reading, writing = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.close(reading)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.alarm(math.ceil(TIMEOUT_S) + 1)  # its end, should this process's parent have gone
            if uid != 0:
                os.setgroups([])
                os.setresgid(_NOBODY, _NOBODY, _NOBODY)
                os.setresuid(uid, uid, uid)
            octets = json.dumps(_labs_of(uid)).encode()[:_ANSWER_OCTETS_MAX]
            while octets:
                octets = octets[os.write(writing, octets) :]
            status = 0
        except BaseException:  # a boundary: what is wrong with one user's labs is not ours; an empty answer says so
            status = 1
        finally:
            os._exit(status)
    os.close(writing)
    return pid, reading


def _ask(started: dict[int, tuple[int, int]]) -> dict[int, bytes | None]:
    """What the processes said; None of those that took too long, which are ended."""
    answers: dict[int, bytes | None] = {}
    said = {uid: bytearray() for uid in started}
    deadline = time.monotonic() + TIMEOUT_S
    with selectors.DefaultSelector() as selector:
        for uid, (_, reading) in started.items():
            selector.register(reading, selectors.EVENT_READ, uid)
        while selector.get_map():
            for key, _ in selector.select(max(0.0, deadline - time.monotonic())):
                part = os.read(key.fd, 1 << 16)
                said[key.data] += part
                if not part or len(said[key.data]) > _ANSWER_OCTETS_MAX:
                    selector.unregister(key.fd)
                    answers[key.data] = bytes(said[key.data])
            if time.monotonic() >= deadline:
                break
    for uid, (pid, reading) in started.items():
        os.close(reading)
        answers.setdefault(uid, None)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        for _ in range(100):  # one that waits for a file system does not end at once, and is not waited for
            if os.waitpid(pid, os.WNOHANG)[0]:
                break
            time.sleep(0.01)
    return answers


def _labs_of(uid: int) -> list[dict[str, Any]]:
    """What `uid` has running, read as `uid`."""
    rows = []
    for folder in sorted(_folders(uid))[:_LABS_MAX]:
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, LabGone):
            rows.append(_summary(uid, folder))
    return rows


def _folders(uid: int) -> set[str]:
    bases = {f"/run/user/{uid}/wirelab", f"/tmp/wirelab-{uid}"}  # noqa: S108 - looked at with that user's rights
    if uid == 0:
        with contextlib.suppress(MachineError):
            bases.add(str(runs.base()))
    for owner, pid in _processes():
        if owner == uid:
            with contextlib.suppress(OSError):
                bases |= {os.path.dirname(word) for word in _words(pid)[4:5] if word.startswith("/")}
    found = set()
    for base in bases:
        with contextlib.suppress(OSError):
            found |= {os.path.join(base, name) for name in os.listdir(base) if LAB_NAME.fullmatch(name)}
    return found


def _words(pid: int) -> list[str]:
    with open(f"/proc/{pid}/cmdline", "rb") as stream:
        return [os.fsdecode(word) for word in stream.read(1 << 16).split(b"\0")]


def _summary(uid: int, folder: str) -> dict[str, Any]:
    """A running lab's row; raises when `folder` holds none."""
    info = os.lstat(folder)
    if not stat.S_ISDIR(info.st_mode) or info.st_uid != uid or not is_alive(Path(folder)):
        raise ValueError(folder)
    descriptor = os.open(f"{folder}/lab.json", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    with open(descriptor, "rb") as stream:
        info = os.fstat(descriptor)
        if not stat.S_ISREG(info.st_mode) or info.st_size > _FACTS_OCTETS_MAX:
            raise ValueError(folder)
        facts = json.loads(stream.read(_FACTS_OCTETS_MAX))
    with Control(Path(folder)) as control:
        pid, services = control.peer(), control.services()
    running = sum(service["running"] is True for service in services)
    return {
        "name": os.path.basename(folder),
        "lab": facts["lab"],
        "started": facts["started"],
        "nodes": len(facts["nodes"]),
        "services": running,
        "failed": len(services) - running,
        "pid": pid,
        "directory": folder,
    }


def _checked(row: Any, uid: int, user: str) -> dict[str, Any] | None:
    """`row` if every value has its type, texts shortened; else None."""
    wanted = {"name": str, "lab": str, "nodes": int, "services": int, "failed": int, "pid": int, "directory": str}
    if not isinstance(row, dict) or any(type(row.get(key)) is not kind for key, kind in wanted.items()):
        return None
    started = row.get("started")
    if not isinstance(started, int | float) or not 0 <= started < 2**40:
        return None
    values = {key: row[key][:_TEXT_MAX] if kind is str else row[key] for key, kind in wanted.items()}
    return {"uid": uid, "user": user, **values, "started": started}


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
