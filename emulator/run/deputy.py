"""The process that does for its user what takes rights that the user's own processes lack. Run as a program in a
container, standard library only:

    python -I -S deputy.py FOLDER

Who may use the Docker Engine can have it start this with the capabilities that labs with containers need, but with the
own user id and in the own view of the files (`emulator.commands.deputy`). It connects to FOLDER/ctl, where the one who
started it listens, and is given the listening socket and the lock of FOLDER. From then on it runs programs for its
user, with the streams, the folder and the environment of who asks. It ends when nobody asks any more and no process is
left of what it ran: the deputy that brought a lab up stays as long as the lab.

Messages are one JSON object each. To it: `{"run": …}` (`Errand`) with descriptors beside it, then `{"signal": n}`. From
it: `{"status": n}`, the last one. When who asked has gone, what was asked for is killed.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import selectors
import signal
import socket
import sys
import termios
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from emulator.run import kernel

CAPABILITIES = ("SETPCAP", "SYS_ADMIN", "SYS_CHROOT", "SYS_PTRACE")
"""What it needs beyond what its labs' nodes have (capabilities(7)): SYS_ADMIN to enter namespaces and to mount,
SYS_CHROOT to enter mount namespaces, SYS_PTRACE to take hold of the namespaces of containers, whose processes are
root's, SETPCAP to take away from a node's processes what they shall not have."""

ENVIRONMENT = "WIRELAB_DEPUTY"
"""In the environment of what a deputy runs: its folder."""

LINK = "deputy"
"""In the run directory of a lab: a link to the folder of the deputy that holds it."""

FILE_CAPABILITIES = ("CHOWN", "DAC_OVERRIDE")
"""Those that are power over files; they are meant for those in containers."""

_TERMINAL_SIGNALS = (signal.SIGINT, signal.SIGQUIT)


class Errand(NamedTuple):
    """A program to run. Beside it travel descriptors of the mount namespace and the folder in which it runs, and of its
    standard streams; beside the first one of all also those of the listening socket and of the lock.

    Attributes:
        argv: its first word is the path of the program.
        umask: the mode bits that its files do not get.
        terminal: its standard input is a terminal that shall be its own.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str]
    umask: int
    terminal: bool = False


def has_rights() -> bool:
    """Whether this process may build and enter labs with containers itself."""
    wanted = kernel.capability_set(("SYS_ADMIN", "NET_ADMIN"))
    return kernel.capabilities() & wanted == wanted


def respect_files() -> None:
    """Use no power over files that the user does not have: for processes that read and write the user's own. Programs
    that they start have it again."""
    kernel.use_capabilities(without=kernel.capability_set(FILE_CAPABILITIES))


def of_lab(directory: Path) -> Path | None:
    """The folder of the deputy that holds the lab in the run directory `directory`, if one does."""
    try:
        return Path(os.readlink(directory / LINK))
    except OSError:
        return None


def connect(folder: Path) -> socket.socket:
    """A connection to the one who listens in `folder`.

    Raises:
        OSError: nobody does.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
    try:
        with _at(folder) as place:
            connection.connect(place)
    except OSError:
        connection.close()
        raise
    return connection


def listen(folder: Path) -> socket.socket:
    """Listen in `folder`."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
    with _at(folder) as place:
        listener.bind(place)
    listener.listen(128)
    return listener


@contextlib.contextmanager
def _at(folder: Path) -> Any:
    """The path of the socket, which may have at most 107 octets (unix(7)); the folder's may be longer."""
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/ctl"
    finally:
        os.close(descriptor)


def send(connection: socket.socket, message: Mapping[str, Any], fds: tuple[int, ...] = ()) -> None:
    """Send a message that is never long."""
    kernel.send_message(connection, json.dumps(message).encode(), fds)


def send_errand(connection: socket.socket, errand: Errand, fds: tuple[int, ...]) -> None:
    """Send an errand, which may be longer than a message can be, so it travels as a file in memory."""
    descriptor = os.memfd_create("errand", os.MFD_CLOEXEC)
    with open(descriptor, "w", encoding="utf-8", errors="surrogateescape") as file:
        json.dump(errand._asdict(), file)
        file.flush()
        send(connection, {"run": True}, (descriptor, *fds))


def receive(connection: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """The next message and the descriptors beside it; an empty one when nobody is there any more."""
    try:
        payload, fds = kernel.receive_message(connection)
    except OSError:
        return {}, []
    return (json.loads(payload) if payload else {}), fds


class Deputy:
    """Runs errands, each in a process of its own."""

    def __init__(self, folder: Path, first: socket.socket) -> None:
        self._folder = folder
        self._listener: socket.socket | None = None
        self._selector = selectors.DefaultSelector()
        self._callers: dict[socket.socket, int] = {}
        self._take(first)

    def run(self) -> None:
        """Serve until nobody is left: neither who asks, nor a process of what was run."""
        wake_read, wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self._selector.register(wake_read, selectors.EVENT_READ, "wake")
        while self._reap() or self._callers:
            for key, _ in self._selector.select():
                if key.data == "wake":
                    with contextlib.suppress(BlockingIOError):
                        os.read(wake_read, 4096)
                elif key.data == "listener":
                    with contextlib.suppress(OSError):
                        self._take(key.fileobj.accept()[0])  # type: ignore[union-attr]
                elif key.fileobj in self._callers:
                    self._hear(key.fileobj)

    def _take(self, connection: socket.socket) -> None:
        self._callers[connection] = 0
        self._selector.register(connection, selectors.EVENT_READ, "caller")

    def _drop(self, connection: socket.socket) -> None:
        del self._callers[connection]
        self._selector.unregister(connection)
        connection.close()

    def _reap(self) -> bool:
        """Take note of who has ended; returns whether a process is left."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            for connection in [caller for caller, own in self._callers.items() if own == pid]:
                code = os.waitstatus_to_exitcode(status)
                with contextlib.suppress(OSError):
                    send(connection, {"status": code if code >= 0 else 128 - code})
                self._drop(connection)

    def _hear(self, connection: socket.socket) -> None:
        fds: list[int] = []
        pid = self._callers[connection]
        try:
            message, fds = receive(connection)
            if not message:
                self._drop(connection)
                if pid:
                    _signal(os.killpg, pid, signal.SIGKILL)
            elif "run" in message and not pid:
                self._callers[connection] = self._start(_read(fds[0]), fds[1:6])
                if len(fds) > 6:
                    self._listen(os.dup(fds[6]), os.dup(fds[7]))
            elif "signal" in message and pid:
                number = int(message["signal"])
                _signal(os.killpg if number in _TERMINAL_SIGNALS else os.kill, pid, number)
        except (OSError, ValueError, TypeError, LookupError):  # nobody may end a lab by asking wrongly
            if connection in self._callers:
                self._drop(connection)
        finally:
            for descriptor in fds:
                os.close(descriptor)

    def _listen(self, listener: int, _lock: int) -> None:
        """Others of the same user can come from now on; the lock is held as long as this process lives."""
        self._listener = socket.socket(fileno=listener)
        self._selector.register(self._listener, selectors.EVENT_READ, "listener")

    def _start(self, errand: Errand, fds: list[int]) -> int:
        """Start a process and wait until it is the program, so that it gets every signal that is sent from then on."""
        read_end, write_end = os.pipe2(os.O_CLOEXEC)
        child = os.fork()
        if child:
            os.close(write_end)
            os.read(read_end, 1)
            os.close(read_end)
            return child
        try:
            self._become(errand, fds)
        except OSError as error:
            os.write(2, f"wirelab: cannot run {errand.argv[0]}: {error.strerror or error}\n".encode())
        finally:
            os._exit(1)

    def _become(self, errand: Errand, fds: list[int]) -> None:
        view, folder, *streams = fds
        for target, stream in enumerate(streams):
            os.dup2(stream, target)
        os.setsid()
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        if not _same(view, "/proc/self/ns/mnt"):
            kernel.setns(view, kernel.CLONE_NEWNS)
        os.fchdir(folder)
        os.umask(errand.umask)
        if errand.terminal:
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        os.execve(errand.argv[0], list(errand.argv), {**errand.env, ENVIRONMENT: str(self._folder)})


def _read(descriptor: int) -> Errand:
    with open(os.dup(descriptor), encoding="utf-8", errors="surrogateescape") as file:
        file.seek(0)
        return Errand(**json.load(file))


def _signal(how: Any, pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        how(pid, number)


def _same(descriptor: int, path: str) -> bool:
    return os.path.samestat(os.fstat(descriptor), os.stat(path))


def main(arguments: list[str]) -> int:
    """Serve; returns the exit status."""
    folder = Path(arguments[0])
    kernel.adopt_orphans()
    kernel.set_process_name("wirelab-deputy")
    try:
        first = connect(folder)
    except OSError as error:
        if error.errno == errno.ECONNREFUSED:  # who was to be there has been killed
            _remove(folder)
        print(f"{folder}: {error.strerror}", file=sys.stderr)  # noqa: T201 - who starts it reads this
        return 1
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    try:
        Deputy(folder, first).run()
    finally:
        _remove(folder)
    return 0


def _remove(folder: Path) -> None:
    import shutil  # here, since `exec` has no use for it and shall be instant

    shutil.rmtree(folder, ignore_errors=True)
    with contextlib.suppress(OSError):
        os.rmdir(folder.parent)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
