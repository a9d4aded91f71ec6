"""Commands for which the user's own rights do not suffice, done by a deputy (`emulator.run.deputy`) all the same.

Labs with containers take rights over the machine's network namespaces. Who may use the Docker Engine has all rights of
root already, by the containers that it starts; here that is used for as few of them as the work takes. `up` and a
verification in an instance of its own start a deputy. What enters a running lab asks the deputy that holds it.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import select
import signal
import socket
import struct
import sys
import termios
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from emulator.errors import CommandFailed, RightsLacking, UsageError
from emulator.run import deputy, runs
from emulator.run.control import is_alive

COMMAND_LINE = "from emulator.cli import main; sys.exit(main())"
EXTCAP = "from emulator.commands.extcap import main; sys.exit(main(sys.argv[1:]))"
PROVE = "from emulator.commands.many import prove; sys.exit(prove())"
"""What a deputy can be asked to run, as the words after `import sys`."""

_ENTERING = frozenset(("capture", "exec", "explain", "fault", "link", "ps", "shell"))
_STARTING = frozenset(("up", "verify"))
_PASSED_ON = (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP)
_KEPT = frozenset((
    "COLUMNS", "DOCKER_HOST", "HOME", "LANG", "LANGUAGE", "LINES", "LOGNAME", "NO_COLOR", "PATH", "SHELL", "TERM",
    "TMPDIR", "TZ", "USER", "VIRTUAL_ENV", "XDG_RUNTIME_DIR",
))  # fmt: skip
_KEPT_KINDS = ("LC_", "PYTHON", "WIRELAB_")


def instead(options: argparse.Namespace, arguments: Sequence[str]) -> int | None:
    """Have a deputy do the command, if one must; its exit status, or None when this process can do it itself.

    Raises:
        MachineError: a deputy cannot be started.
        CommandFailed: it has ended.
    """
    if options.command in _ENTERING:
        if getattr(options, "wireshark", False):
            return _for_wireshark(options.lab, arguments)
        return in_lab(options.lab, COMMAND_LINE, arguments, interactive=options.command in ("exec", "shell"))
    if options.command not in _STARTING:
        return None
    labs = [options.lab] if isinstance(options.lab, str) else list(options.lab or ())
    if options.command == "verify" and len(labs) == 1 and not options.twin and labs[0] in runs.names():
        return in_lab(labs[0], COMMAND_LINE, arguments)
    if options.backend != "docker" or os.geteuid() == 0 or deputy.has_rights():
        return None
    return _start(options, arguments)


def after(error: RightsLacking, options: argparse.Namespace, arguments: Sequence[str]) -> int:
    """Have a deputy do a command of which it came out late that rights are lacking.

    Raises:
        RightsLacking: this user has no way to more rights.
    """
    if os.geteuid() == 0 or options.command not in _STARTING:
        raise error
    return _start(options, arguments, error.extra)


def _start(options: argparse.Namespace, arguments: Sequence[str], extra: Sequence[str] = ()) -> int:
    from emulator.commands import deputy_container

    name = getattr(options, "name", None) or _name(options.lab or getattr(options, "topology", None) or "lab")
    return deputy_container.start(COMMAND_LINE, arguments, name=name, stays=options.command == "up", extra=extra)


def _name(lab: str | Sequence[str]) -> str:
    """By what name `ps` and `down` shall know the container if it is left behind."""
    if not isinstance(lab, str):
        return "verify"
    path = Path(lab)
    return (path.parent if path.name == "lab.yml" else path).stem or "lab"


def in_lab(
    lab: str | None, code: str, arguments: Sequence[str], *, interactive: bool = False, stdout: int = 1
) -> int | None:
    """Have the deputy that holds the running lab `lab` run a command with this process's streams; returns its exit
    status, or None where this process can do it itself, or there is no such lab.

    Args:
        code: `COMMAND_LINE` or the like.
        interactive: on a terminal, the command gets one of its own.
        stdout: where its output goes.

    Raises:
        CommandFailed: the deputy has ended.
    """
    folder = _of_running(lab)
    if folder is None:
        return None
    try:
        connection = deputy.connect(folder)
    except OSError:
        raise CommandFailed(f"the lab {lab} has ended", hint="wirelab ps") from None
    with connection:
        return talk(connection, code, arguments, interactive=interactive, stdout=stdout)


def _of_running(lab: str | None) -> Path | None:
    with contextlib.suppress(UsageError):
        folder = deputy.of_lab(runs.directory(lab)) if lab is not None else None
        return folder if folder is not None and is_alive(folder) and not deputy.has_rights() else None
    return None


def _for_wireshark(lab: str, arguments: Sequence[str]) -> int | None:
    """Wireshark is started here, without rights; what is recorded comes to it through a pipe."""
    if _of_running(lab) is None:
        return None
    from emulator.commands.capture import open_wireshark

    place = list(arguments).index("--wireshark")
    target = open_wireshark()
    try:
        words = [*arguments[:place], "-w", "-", *arguments[place + 1 :]]
        return in_lab(lab, COMMAND_LINE, words, stdout=target.fd)
    finally:
        target.release()


# Talking to one


def talk(
    connection: socket.socket,
    code: str,
    arguments: Sequence[str],
    *,
    interactive: bool = False,
    stdout: int = 1,
    beside: tuple[int, ...] = (),
) -> int:
    """Have the deputy at the other end of `connection` run a command; see `in_lab`.

    Args:
        beside: further descriptors for the deputy.
    """
    sys.stdout.flush()
    with contextlib.ExitStack() as stack:
        terminal = stack.enter_context(_Terminal()) if interactive and os.isatty(0) and os.isatty(1) else None
        wake = stack.enter_context(_signals(with_size=terminal is not None))
        flags = os.O_RDONLY | os.O_CLOEXEC
        opened = [os.open("/proc/self/ns/mnt", flags), _here()]
        for descriptor in opened:
            stack.callback(os.close, descriptor)
        streams = terminal.streams() if terminal else tuple(_open_stream(stack, fd) for fd in (0, stdout, 2))
        deputy.send_errand(
            connection, _errand(code, arguments, terminal=terminal is not None), (*opened, *streams, *beside)
        )
        if terminal:
            terminal.begin()
        return _wait(connection, wake, terminal)


def _errand(code: str, arguments: Sequence[str], *, terminal: bool) -> deputy.Errand:
    path = [os.path.abspath(entry) for entry in sys.path]
    prepare = "from emulator.run.deputy import respect_files; respect_files()"
    program = f"import sys; sys.path[:] = {path!r}; {prepare}; {code}"
    mask = os.umask(0o077)
    os.umask(mask)
    argv = (sys.executable, "-P", "-c", program, *arguments)
    return deputy.Errand(argv, environment(os.environ), mask, terminal)


def environment(own: Mapping[str, str]) -> dict[str, str]:
    """What of the caller's environment a command that a deputy runs has."""
    return {key: value for key, value in own.items() if key in _KEPT or key.startswith(_KEPT_KINDS)}


def _here() -> int:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    try:
        return os.open(".", flags)
    except OSError:
        return os.open("/", flags)


def _open_stream(stack: contextlib.ExitStack, descriptor: int) -> int:
    """The standard stream `descriptor`, or nothing where it is closed."""
    try:
        os.fstat(descriptor)
    except OSError:
        descriptor = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        stack.callback(os.close, descriptor)
    return descriptor


def _wait(connection: socket.socket, wake: int, terminal: _Terminal | None) -> int:
    while True:
        reading: list[Any] = [connection, wake, *(terminal.wants_to_read() if terminal else ())]
        writing = terminal.wants_to_write() if terminal else []
        readable, writable, _ = select.select(reading, writing, [])
        if wake in readable:
            for number in os.read(wake, 64):
                if terminal and number == signal.SIGWINCH:
                    terminal.resize()
                elif number in _PASSED_ON:
                    with contextlib.suppress(OSError):
                        deputy.send(connection, {"signal": number})
        if terminal:
            terminal.pump(readable, writable)
        if connection in readable:
            answer, _ = deputy.receive(connection)
            if terminal:
                terminal.drain()
            if "status" not in answer:
                raise CommandFailed("what did this with the rights of root was killed", hint="wirelab ps")
            return int(answer["status"])


@contextlib.contextmanager
def _signals(*, with_size: bool) -> Iterator[int]:
    """A descriptor from which the numbers of the signals that come can be read."""
    reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    numbers = [number for number in _PASSED_ON if signal.getsignal(number) is not signal.SIG_IGN]
    numbers += [signal.SIGWINCH] if with_size else []
    before = {number: signal.signal(number, lambda *_: None) for number in numbers}
    try:
        yield reading
    finally:
        signal.set_wakeup_fd(-1)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(reading)
        os.close(writing)


class _Terminal:
    """A terminal of the command's own (pty(7)), which looks and behaves like the one of this process."""

    def __init__(self) -> None:
        self.ours, self.theirs = os.openpty()
        self.before = termios.tcgetattr(0)
        self.typed = b""
        self.open = True

    def __enter__(self) -> _Terminal:
        termios.tcsetattr(self.theirs, termios.TCSANOW, self.before)
        self.resize()
        os.set_blocking(self.ours, False)
        return self

    def __exit__(self, *_: object) -> None:
        termios.tcsetattr(0, termios.TCSADRAIN, self.before)
        os.close(self.ours)
        if self.theirs >= 0:
            os.close(self.theirs)

    def streams(self) -> tuple[int, int, int]:
        return self.theirs, self.theirs, self.theirs if os.isatty(2) else 2

    def begin(self) -> None:
        """The command has its end now; from here on every key goes to it."""
        os.close(self.theirs)
        self.theirs = -1
        import tty

        tty.setraw(0)

    def resize(self) -> None:
        """Give the command's terminal the size of ours."""
        size = fcntl.ioctl(0, termios.TIOCGWINSZ, struct.pack("4H", 0, 0, 0, 0))
        fcntl.ioctl(self.ours, termios.TIOCSWINSZ, size)

    def wants_to_read(self) -> list[int]:
        return [*([self.ours] if self.open else []), *([] if self.typed else [0])]

    def wants_to_write(self) -> list[int]:
        return [self.ours] if self.typed and self.open else []

    def pump(self, readable: Sequence[Any], writable: Sequence[Any]) -> None:
        """Pass on what was typed, and what was printed."""
        if 0 in readable:
            self.typed = os.read(0, 4096)
        if self.ours in writable:
            with contextlib.suppress(BlockingIOError):
                self.typed = self.typed[os.write(self.ours, self.typed) :]
        if self.ours in readable:
            self._print()

    def drain(self) -> None:
        """Print what is still there."""
        while self.open and select.select([self.ours], [], [], 0)[0]:
            self._print()

    def _print(self) -> None:
        try:
            octets = os.read(self.ours, 65536)
        except OSError:  # nobody has the other end any more (EIO)
            octets = b""
        self.open = bool(octets)
        while octets:
            octets = octets[os.write(1, octets) :]
