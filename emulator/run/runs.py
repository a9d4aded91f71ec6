"""Run directories: where running labs are found, how one begins and how one ends. Standard library only.

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
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emulator.errors import CommandFailed, MachineError, UsageError
from emulator.names import LAB_NAME
from emulator.run import control, run_directory, running

if TYPE_CHECKING:
    from emulator.run import view

_STALE_AFTER_S = 10.0
_HEEDS_WITHIN_S = 5.0
_END_WITHIN_S = 10.0


def base() -> Path:
    """The folder of this user's run directories.

    Raises:
        MachineError: it exists, but belongs to someone else or is open to others.
    """
    return Path(running.base())


def check_name(name: str) -> str:
    """`name`, if it can be the name of a lab's instance."""
    if not LAB_NAME.fullmatch(name):
        raise UsageError(f"'{name}' cannot be the name of a lab", hint="letters, digits, and inner . _ -")
    return name


def tidy() -> None:
    """Remove directories of labs that have ended."""
    folder = base()
    with contextlib.suppress(OSError):
        for entry in list(folder.iterdir()):
            _tidy_one(entry)
        folder.rmdir()


def _tidy_one(entry: Path) -> None:
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


class Start:
    """A lab that is being started: its first process runs, and ends with `close` unless `commit` was said.

    `engine_socket` is where the Docker Engine listens, for a lab with containers. `shared` is what the user agreed to
    share with the lab's nodes.
    """

    def __init__(self, name: str, engine_socket: str | None = None, shared: Sequence[view.Shared] = ()) -> None:
        self.folder = base() / check_name(name)
        self.name = name
        _tidy_one(self.folder)
        if self.folder.exists():
            raise UsageError(f"the lab {name} is running already", hint=f"wirelab down {name}, or up --name OTHER")
        lifeline, self._lifeline = os.pipe2(os.O_CLOEXEC)
        ready, ready_write = os.pipe2(os.O_CLOEXEC)
        program = str(Path(__file__).with_name("init.py"))
        # Not as an argument: those of a process are shown to all users of the machine.
        told = {"WIRELAB_SHARED": json.dumps(shared)}
        try:
            # Straight to the kernel: to import `subprocess` takes a third of the time that the new process needs.
            null = [(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_RDWR, 0) for number in (0, 1, 2)]
            handed = [(os.POSIX_SPAWN_DUP2, number, number) for number in (lifeline, ready_write)]
            argv = [sys.executable, "-I", "-S", program, str(self.folder), name, str(lifeline), str(ready_write)]
            self._keeper = os.posix_spawn(
                sys.executable,
                [*argv, engine_socket or ""],
                {**os.environ, **told},
                file_actions=null + handed,
                setsid=True,
            )
        finally:
            os.close(lifeline)
            os.close(ready_write)
        self._ready = ready

    def wait_ready(self) -> None:
        """Wait until the namespaces are there.

        Raises:
            MachineError, UsageError: with the kernel's reason.
        """
        said = b""
        with os.fdopen(self._ready, "rb") as stream:
            said = stream.read()
        answer: dict[str, Any] = json.loads(said) if said else {}
        if answer.get("ok"):
            return
        self.close()
        _tidy_one(self.folder)  # whoever has no open file to spare cannot remove a folder
        with contextlib.suppress(OSError):
            self.folder.parent.rmdir()
        if not answer:
            raise CommandFailed("the lab's first process was killed while it started", hint="wirelab doctor")
        if answer["error"] == "directory" and answer["errno"] in (17, 39):
            raise UsageError(f"the lab {self.name} is running already", hint=f"wirelab down {self.name}")
        no_room = answer["errno"] in (errno.ENOSPC, errno.EDQUOT) and "unshare" not in answer["text"]
        if answer["error"] == "directory" or no_room:  # else it is a limit of namespaces that gives ENOSPC
            raise CommandFailed(
                f"cannot make the run directory {self.folder}: {os.strerror(answer['errno'])}",
                hint=f"make room in {self.folder.parent.parent}, or set XDG_RUNTIME_DIR to another folder of yours",
            )
        from emulator.run.machine import namespace_hint

        raise MachineError(f"cannot make namespaces: {answer['text']}", hint=namespace_hint(answer["errno"]))

    def forsake(self) -> None:
        """In a process forked from this one: it does not hold the lab."""
        os.close(self._lifeline)
        self._lifeline = -1

    def commit(self) -> None:
        """From now on the lab lives without this process."""
        with control.Control(self.folder) as link:
            link.ask("commit")
        self._close_lifeline()

    def _close_lifeline(self) -> None:
        with contextlib.suppress(OSError):
            os.close(self._lifeline)
        self._lifeline = -1

    def close(self) -> None:
        """Take back everything, unless the lab was committed; returns when it is gone."""
        if self._lifeline < 0:
            return
        self._close_lifeline()
        with contextlib.suppress(OSError):
            keeper = os.pidfd_open(self._keeper)
            try:
                watched = select.poll()
                watched.register(keeper, select.POLLIN)
                watched.poll(_END_WITHIN_S * 1000)
            finally:
                os.close(keeper)
            os.waitpid(self._keeper, os.WNOHANG)


def stop(folder: Path, timeout_s: float = 60.0) -> None:
    """End the lab in `folder` and wait until nothing of it is left; its first process is killed when it does not heed.

    Raises:
        CommandFailed: it is still there after `timeout_s`.
    """
    with contextlib.ExitStack() as stack:
        began = time.monotonic()
        pid, first = 0, -1
        with contextlib.suppress(control.LabGone, OSError), control.Control(folder, _HEEDS_WITHIN_S) as link:
            pid = link.peer()
            with contextlib.suppress(OSError):  # it is in no PID namespace of ours
                first = link.peer_handle()
                stack.callback(os.close, first)
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
    _tidy_one(folder)
    with contextlib.suppress(OSError):
        folder.parent.rmdir()


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
