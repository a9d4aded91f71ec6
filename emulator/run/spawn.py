"""Starting a program as a process of a node. Standard library only: the lab's first process uses it too."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from emulator.run import kernel

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


CAPABILITIES = frozenset(
    (
        0,  # CAP_CHOWN
        1,  # CAP_DAC_OVERRIDE
        3,  # CAP_FOWNER
        4,  # CAP_FSETID
        5,  # CAP_KILL
        6,  # CAP_SETGID
        7,  # CAP_SETUID
        8,  # CAP_SETPCAP
        10,  # CAP_NET_BIND_SERVICE
        11,  # CAP_NET_BROADCAST
        12,  # CAP_NET_ADMIN
        13,  # CAP_NET_RAW
        18,  # CAP_SYS_CHROOT
    )
)
"""What root of a node may do in the lab's user namespace (numbers of linux/capability.h): everything with its network,
files and users. Without CAP_SYS_ADMIN nothing that it sees can be mounted otherwise, and without that and
CAP_SYS_PTRACE it cannot get at the lab's first process, whose capabilities it lacks (ptrace(2))."""


class Spaces(NamedTuple):
    """Open descriptors of a node's namespaces."""

    net: int
    mnt: int
    uts: int


def environment(node: str, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """A small, predictable environment for a node's process."""
    return {"PATH": PATH, "HOME": "/root", "LANG": "C.UTF-8", "HOSTNAME": node, **(extra or {})}


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
    """Start `argv` in `spaces`; the caller must be in the lab's user namespace already.

    Returns:
        The process id, as the caller's PID namespace sees it.

    Raises:
        OSError: the namespaces could not be entered or the program could not be started.
    """
    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        try:
            os.close(read_end)
            _become(spaces, argv, env, (stdin, stdout, stderr), new_session, die_with_parent, cwd)
        except OSError as error:
            os.write(write_end, f"{error.errno or 1} {error.strerror or error}".encode())
        except BaseException as error:
            os.write(write_end, f"1 {type(error).__name__}: {error}".encode())
        os._exit(127)
    os.close(write_end)
    trouble = b""
    while part := os.read(read_end, 4096):
        trouble += part
    os.close(read_end)
    if trouble:
        os.waitpid(pid, 0)
        number, _, text = trouble.decode(errors="replace").partition(" ")
        raise OSError(int(number), text, argv[0])
    return pid


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
    kernel.keep_capabilities(CAPABILITIES)
    high = [os.dup(stream) if stream < 3 else stream for stream in streams]
    for target, stream in enumerate(high):
        os.dup2(stream, target, inheritable=True)
    os.execvpe(argv[0], list(argv), dict(env))
