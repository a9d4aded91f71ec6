"""Starting a program as a process of a node. Standard library only: the lab's first process uses it too."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from emulator.run import kernel

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Spaces(NamedTuple):
    """Open descriptors of a node's namespaces."""

    net: int
    mnt: int
    uts: int


def environment(node: str, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """A small, predictable environment for a node's process."""
    return {"PATH": PATH, "HOME": "/root", "LANG": "C.UTF-8", "HOSTNAME": node, **(extra or {})}


class Begun(NamedTuple):
    """A process that has been made and is about to become its program; `confirm` says whether it did."""

    pid: int
    trouble: int
    program: str


def begin(
    spaces: Spaces,
    argv: Sequence[str],
    env: Mapping[str, str],
    *,
    stdin: int,
    stdout: int,
    stderr: int,
    new_session: bool = True,
    die_with_parent: bool = False,
    cwd: str = "/",
    open_files: tuple[int, int] | None = None,
) -> Begun:
    """Make a process that becomes `argv` in `spaces`; the caller must be in the lab's user namespace already.

    Several may be begun before the first is confirmed: they get ready at the same time.

    Args:
        open_files: the limits of open files, soft and hard, that it gets; those of the caller when there are none.

    Raises:
        OSError: no process could be made.
    """
    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    try:
        pid = os.fork()
    except OSError:
        os.close(read_end)
        os.close(write_end)
        raise
    if pid == 0:
        try:
            os.close(read_end)
            if open_files is not None:
                import resource

                resource.setrlimit(resource.RLIMIT_NOFILE, open_files)
            _become(spaces, argv, env, (stdin, stdout, stderr), new_session, die_with_parent, cwd)
        except OSError as error:
            os.write(write_end, f"{error.errno or 1} {error.strerror or error}".encode())
        except BaseException as error:
            os.write(write_end, f"1 {type(error).__name__}: {error}".encode())
        os._exit(127)
    os.close(write_end)
    return Begun(pid, read_end, argv[0])


def confirm(begun: Begun) -> int:
    """Wait until a process that was begun is its program.

    Returns:
        The process id, as the caller's PID namespace sees it.

    Raises:
        OSError: the namespaces could not be entered or the program could not be started.
    """
    trouble = b""
    while part := os.read(begun.trouble, 4096):
        trouble += part
    os.close(begun.trouble)
    if trouble:
        os.waitpid(begun.pid, 0)
        number, _, text = trouble.decode(errors="replace").partition(" ")
        raise OSError(int(number), text, begun.program)
    return begun.pid


def start(
    spaces: Spaces,
    argv: Sequence[str],
    env: Mapping[str, str],
    *,
    stdin: int,
    stdout: int,
    stderr: int,
    new_session: bool = True,
    die_with_parent: bool = False,
    cwd: str = "/",
) -> int:
    """`begin` and `confirm`: start `argv` in `spaces`, and return its process id. Raises what they raise."""
    return confirm(
        begin(
            spaces,
            argv,
            env,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            new_session=new_session,
            die_with_parent=die_with_parent,
            cwd=cwd,
        )
    )


def allow_many_files() -> tuple[int, int]:
    """Let this process open as many files as the system allows it: each command takes three.

    Returns:
        The limits as they were, which the processes of nodes shall have (`open_files`).
    """
    import resource

    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[1], before[1]))
    return before


def _become(
    spaces: Spaces,
    argv: Sequence[str],
    env: Mapping[str, str],
    streams: tuple[int, int, int],
    new_session: bool,
    die_with_parent: bool,
    cwd: str,
) -> None:
    if die_with_parent:
        kernel.die_with_parent(signal.SIGKILL)
    if new_session:
        os.setsid()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGPIPE, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    kernel.setns(spaces.net, kernel.CLONE_NEWNET)
    kernel.setns(spaces.uts, kernel.CLONE_NEWUTS)
    kernel.setns(spaces.mnt, kernel.CLONE_NEWNS)
    try:
        os.chdir(cwd)
    except OSError:
        os.chdir("/")
    high = [os.dup(stream) if stream < 3 else stream for stream in streams]
    for target, stream in enumerate(high):
        os.dup2(stream, target, inheritable=True)
    if "/" not in argv[0]:
        for folder in env.get("PATH", PATH).split(":"):  # asking first is cheaper than one exception a folder
            if os.access(f"{folder}/{argv[0]}", os.X_OK) and os.path.isfile(f"{folder}/{argv[0]}"):
                os.execve(f"{folder}/{argv[0]}", list(argv), env)
    os.execvpe(argv[0], list(argv), env)
