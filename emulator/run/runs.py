"""Run directories: where running labs are found, and how one ends (`starting` begins one). Standard library only.

$XDG_RUNTIME_DIR/wirelab/NAME/      or /tmp/wirelab-UID/NAME/, 0700
    lock        held while any process of the lab lives
    ctl         the socket of the lab's first process
    lab.json    what runs: the source and the facts that `ps` shows
    log/        what the services said
    private/    empty; the lab's first process begins the lab's own root on it, which is seen only inside
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import select
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from emulator.errors import CommandFailed, UsageError
from emulator.run import control, run_directory, running

_STALE_AFTER_S = 10.0
_HEEDS_WITHIN_S = 5.0
_KEEPER_ENDS_WITHIN_S = 5.0


def base() -> Path:
    """The folder of this user's run directories.

    Raises:
        MachineError: it exists, but belongs to someone else or is open to others.
    """
    return Path(running.base())


def tidy() -> None:
    """Remove directories of labs that have ended."""
    folder = base()
    with contextlib.suppress(OSError):
        for entry in list(folder.iterdir()):
            tidy_one(entry)
        folder.rmdir()


def tidy_one(entry: Path) -> None:
    """Remove the run directory `entry` if its lab has ended."""
    with contextlib.suppress(OSError):
        young = time.time() - entry.stat().st_mtime < _STALE_AFTER_S
        maker = entry.name.rpartition(".")[2]  # who is about to give it its name, or to remove it
        if entry.name.startswith(".") and young and os.path.exists(f"/proc/{maker}"):
            return
        if remains := _take_away(entry):
            run_directory.remove_tree(remains)


def _take_away(entry: Path) -> str | None:
    """Take its name from the directory of a lab that has ended, so that what is removed then can be no other lab's.

    Returns:
        Its new path, or None when it is there no more, or the lab lives.

    Raises:
        OSError: it cannot be told, or not be done.
    """
    folder = os.open(entry, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)  # one at a time takes names away, and nobody gives this one away meanwhile
        if control.is_alive(f"/proc/self/fd/{folder}") or not os.path.samestat(os.fstat(folder), os.lstat(entry)):
            return None
        remains = str(entry if entry.name.startswith(".") else entry.with_name(f".{entry.name}.{os.getpid()}"))
        os.rename(entry, remains)
        return remains
    finally:
        os.close(folder)


def names() -> list[str]:
    """The names of the running labs."""
    return running.names()


def directory(name: str) -> Path:
    """The run directory of the running lab `name`.

    Raises:
        UsageError: no lab of that name runs.
    """
    return Path(running.directory(name))


def facts(folder: Path) -> dict[str, Any]:
    """What the lab's builder wrote down about it."""
    return running.facts(folder)


def write_facts(folder: Path, content: dict[str, Any]) -> None:
    """Write the facts down, all at once.

    Raises:
        CommandFailed: with the kernel's reason.
    """
    fresh = folder / "lab.json.new"
    try:
        fresh.write_text(json.dumps(content), encoding="utf-8")
        fresh.replace(folder / "lab.json")
    except OSError as error:
        raise CommandFailed(
            f"cannot write {folder / 'lab.json'}: {error.strerror}",
            hint="make room there, or set XDG_RUNTIME_DIR to another folder of yours",
        ) from None


def stop(folder: Path, timeout_s: float = 60.0) -> None:
    """End the lab in `folder` and wait until nothing of it is left; its first process is killed when it does not heed.

    Raises:
        CommandFailed: it is still there after `timeout_s`.
    """
    with contextlib.ExitStack() as stack:
        began = time.monotonic()
        pid, first, keeper = 0, -1, -1
        with contextlib.suppress(control.LabGone, OSError), control.Control(folder, _HEEDS_WITHIN_S) as link:
            pid = link.peer()
            with contextlib.suppress(OSError):  # it is in no PID namespace of ours
                first = link.peer_handle()
                stack.callback(os.close, first)
                keeper = _keeper_of(pid)
                stack.callback(os.close, keeper)
            link.ask("stop")
        killed = False
        while control.is_alive(folder):
            waited = time.monotonic() - began
            if waited > _HEEDS_WITHIN_S and first >= 0 and not killed:
                killed = True
                with contextlib.suppress(OSError):
                    signal.pidfd_send_signal(first, signal.SIGKILL)
            if waited > timeout_s:
                raise CommandFailed(f"the lab {folder.name} does not end", hint=f"kill -9 {pid}" if pid > 1 else None)
            time.sleep(0.002)
        if keeper >= 0:  # it removes the run directory, and with it the lock, before it ends
            waited_for = select.poll()
            waited_for.register(keeper, select.POLLIN)
            waited_for.poll(_KEEPER_ENDS_WITHIN_S * 1000)
    tidy_one(folder)
    with contextlib.suppress(OSError):
        folder.parent.rmdir()


def _keeper_of(init: int) -> int:
    """A descriptor of the process that started the first process of a lab (pidfd_open(2)).

    Raises:
        OSError: there is none any more, or another one has adopted it.
    """
    with open(f"/proc/{init}/stat", encoding="ascii", errors="replace") as stream:
        parent = int(stream.read().rpartition(")")[2].split()[1])
    handle = os.pidfd_open(parent)
    try:
        with open(f"/proc/{parent}/comm", encoding="ascii", errors="replace") as stream:
            if stream.read().strip() == "wirelab-keeper":
                return handle
        raise ProcessLookupError(errno.ESRCH, "the keeper has ended")
    except OSError:
        os.close(handle)
        raise


def sources() -> Iterator[Path]:
    """The folders of the labs that are shipped with this package or checkout, in the order in which they are read."""
    root = Path(__file__).resolve().parents[2]
    for place in (root / "labs", Path(__file__).resolve().parents[1] / "labs"):
        if place.is_dir():
            found = {folder.name: folder for folder in sorted(place.iterdir()) if (folder / "lab.yml").is_file()}
            yield from (found.pop(name) for name in reading_order(place) if name in found)
            yield from found.values()
            return


def reading_order(labs: Path) -> list[str]:
    """The names in the file `order.txt` of the folder `labs`, each once; nothing when there is no such file."""
    try:
        lines = (labs / "order.txt").read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return []
    words = (line.partition("#")[0].strip() for line in lines)
    return [word for word in dict.fromkeys(words) if word]


def find_source(text: str) -> Path:
    """The lab file for a shipped lab's name, a file or a folder.

    Raises:
        UsageError: there is none.
    """
    known = {folder.name: folder for folder in sources()}
    path = Path(text)
    try:
        if text in known and not path.is_file():
            return known[text] / "lab.yml"
        if path.is_dir():
            return path / "lab.yml"
        if path.is_file():
            return path
    except OSError as error:  # a name that is too long, a folder that may not be entered
        said = f"cannot read {text[:200]}: {error.strerror}"
        raise UsageError(said, hint="wirelab labs lists those that are shipped") from None
    from difflib import get_close_matches

    close = get_close_matches(text, known, n=1)
    hint = f"did you mean {close[0]}?" if close else f"shipped labs: {', '.join(known)}"
    raise UsageError(f"there is no lab '{text}'", hint=hint)
