"""What holds for any input whatsoever, said once for all that is fuzzed: no traceback, no hang, bounded memory, nothing
touched outside of a folder, and nothing printed that could drive a terminal. A broken promise is a `Broken`.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import io
import os
import resource
import shutil
import signal
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from emulator.errors import LabFileError, WirelabError, is_shown, render

ROOT = Path(__file__).resolve().parents[2]

SECONDS = 20
"""As much processor time as one input may take: the largest labs that are allowed take some of it, where coverage is
counted."""

SECONDS_WAITING = 300
"""As long as it may take on a machine that has much else to do; who waits for nothing uses no processor time."""

_PROCESSES = frozenset(
    ("os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.system", "subprocess.Popen")
)
_CHANGES = frozenset(("os.chmod", "os.chown", "os.link", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.symlink",
                      "os.truncate", "shutil.rmtree"))  # fmt: skip
_READ = tuple(
    str(place)
    for place in (
        ROOT,
        sys.prefix,
        sys.base_prefix,
        sysconfig.get_path("stdlib"),
        "/dev/null",
        "/proc",
        "/usr",
        "/etc/localtime",
    )
)


class Broken(AssertionError):  # noqa: N818 - it names an event, not a kind of mistake
    """A promise that does not hold."""


class TooLong(BaseException):
    """An input has taken its time; no `except Exception` on the way can hide it."""


class _Watch:
    """What the process does while an input is looked at; there is one at a time, since audit hooks are for ever."""

    now: _Watch | None = None

    def __init__(self, folder: Path, *, programs: bool) -> None:
        self.folder = f"{folder}{os.sep}"
        self.programs = programs
        self.seen: list[str] = []

    def hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Note what is not allowed. (To raise here would be caught by whoever expects an OSError.)"""
        if event == "open":
            path, _mode, flags = arguments
            if isinstance(path, (str, bytes)):
                self._opened(os.path.abspath(os.fsdecode(path)), flags)
        elif event in _PROCESSES and not self.programs:
            self.seen.append(f"started a process: {event} {arguments!r}")
        elif event == "socket.connect":
            if isinstance(arguments[1], tuple) or not self._is_mine(os.fsdecode(arguments[1])):
                self.seen.append(f"opened a connection: {arguments[1]!r}")
        elif event in _CHANGES:
            path = os.path.abspath(os.fsdecode(arguments[0]))
            if not self._is_mine(path) and "__pycache__" not in path:
                self.seen.append(f"changed a file: {event} {arguments!r}")

    def _opened(self, path: str, flags: int) -> None:
        if path == "/proc/self/fd/1":
            return
        if path.startswith("/proc/self/fd/"):  # what lies in a folder that is open
            path = os.path.realpath(path)
        if self._is_mine(path) or "__pycache__" in path:
            return
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) and path != os.devnull:
            self.seen.append(f"wrote {path}")
        elif not path.startswith(_READ):
            self.seen.append(f"read {path}")

    def _is_mine(self, path: str) -> bool:
        return f"{path}{os.sep}".startswith(self.folder)


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    if _Watch.now is not None:
        _Watch.now.hear(event, arguments)


@functools.cache
def _listen() -> None:
    sys.addaudithook(_hear)


def _too_long(_number: int, _frame: FrameType | None) -> None:
    raise TooLong("too long")


@contextlib.contextmanager
def kept(folder: Path, *, programs: bool = False) -> Iterator[None]:
    """Hold the code inside to it: it ends in time, starts nothing, connects to nothing, and touches only `folder`.

    Args:
        programs: it may start some.

    Raises:
        Broken: it did not.
    """
    _listen()
    before = [signal.signal(number, _too_long) for number in (signal.SIGPROF, signal.SIGALRM)]
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    signal.alarm(SECONDS_WAITING)
    watch = _Watch.now = _Watch(folder, programs=programs)
    try:
        yield
    except TooLong as error:
        raise Broken(f"took {error}: {SECONDS} s of processor time, or {SECONDS_WAITING} s") from error
    except (MemoryError, RecursionError) as error:
        raise Broken(f"used up what there is: {error!r}") from error
    finally:
        _Watch.now = None
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.alarm(0)
        for number, handler in zip((signal.SIGPROF, signal.SIGALRM), before, strict=True):
            signal.signal(number, handler)
    if watch.seen:
        raise Broken(f"it {watch.seen[0]}")


def limit_memory(octets: int) -> None:
    """Let this process use `octets` more than it does now; beyond them it gets a MemoryError."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    most = pages * resource.getpagesize() + octets
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


@functools.cache
def folder() -> Path:
    """A folder of this process for what an input is written to, with what a lab file may point to: a file beside it,
    one that is no text, and ways out of the folder. It is the working folder of the command lines too."""
    place = Path(tempfile.mkdtemp(prefix="wirelab-fuzz-"))
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    (place / "page.html").write_text("<h1>a page</h1>\n", encoding="utf-8")
    (place / "octets").write_bytes(bytes(range(256)))
    (place / "sub").mkdir()
    (place / "out").symlink_to("/etc/passwd")
    (place / "loop").symlink_to("loop")
    return place


def shown_safely(text: str) -> None:
    """Require that `text`, which goes to a terminal, cannot drive it."""
    if text.replace("\n", "").replace("\t", "").isprintable():
        return
    for character in text:
        if character not in "\n\t" and not is_shown(character):
            raise Broken(f"a terminal would get {character!a} in {text[:300]!a}")


def refused_well(error: WirelabError, file: str = "", rows: int = 0) -> None:
    """Require that a person can act on `error`: what, where in the lab file `file` of so many `rows`, and what next."""
    said = render(error)
    shown_safely(said)
    if not isinstance(error, LabFileError):
        if not error.message or "\n" in error.message:
            raise Broken(f"not one clear line: {said!a}")
        return
    if len(said.split("\n")) != len(error.problems) + 1 or not error.problems:
        raise Broken(f"not one line a problem: {said!a}")
    for problem in error.problems:
        if problem.file != file or not 1 <= problem.line <= rows + 1 or problem.column < 1 or not problem.message:
            raise Broken(f"a problem without its place: {problem!a}")


def octets_of_stream() -> io.TextIOWrapper:
    """A stream as strict as standard output: what is no UTF-8 is an error."""
    return io.TextIOWrapper(io.BytesIO(), encoding="utf-8", newline="\n", write_through=True)
