"""Starting a program as a process of a node. Standard library only: the lab's first process uses it too."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from emulator.run import kernel, seccomp

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


CAPABILITIES = kernel.capability_set((
    "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "NET_ADMIN", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_RAW",
    "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT",
))  # fmt: skip
"""What root of a node may do in the lab's user namespace (a bit set): everything with its network,
files and users. Without CAP_SYS_ADMIN nothing that it sees can be mounted otherwise, and without that and
CAP_SYS_PTRACE it cannot get at the lab's first process, whose capabilities it lacks (ptrace(2))."""

_REFUSED_CALLS = seccomp.program()


class Spaces(NamedTuple):
    """Open descriptors of a node's namespaces; `ipc` and `cgroup` are a container's alone, `pid` is there where the
    caller is not in the PID namespace already.

    `confinement` is what else holds the processes of a node that is not in a user namespace of the lab: `capabilities`
    (a bit set; nothing beyond it can be had; with `ambient` they are there though the process is not root's), and of a
    container `cgroups` (files where a process joins), `profile`
    (of AppArmor), `uid`, `gid`, `groups`, `env` and `cwd`.
    """

    net: int
    mnt: int
    uts: int
    ipc: int = -1
    pid: int = -1
    cgroup: int = -1
    confinement: Mapping[str, Any] | None = None

    @property
    def descriptors(self) -> dict[str, int]:
        """Those that are there, by name."""
        names = ("net", "mnt", "uts", "ipc", "pid", "cgroup")
        return {name: fd for name, fd in zip(names, self[:6], strict=True) if fd >= 0}

    def close(self) -> None:
        """Close all of them."""
        for descriptor in self.descriptors.values():
            os.close(descriptor)


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
        pid = _fork(spaces)
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


def _fork(spaces: Spaces) -> int:
    """A child in the PID namespace of the node, if it has one of its own."""
    if spaces.pid < 0:
        return os.fork()
    usual = os.open("/proc/self/ns/pid_for_children", os.O_RDONLY | os.O_CLOEXEC)
    child = -1
    try:
        kernel.setns(spaces.pid, kernel.CLONE_NEWPID)
        child = os.fork()
    except OSError as error:
        if error.errno == errno.ENOMEM:  # the first process of that PID namespace has ended (pid_namespaces(7))
            raise OSError(errno.ESRCH, "its container has ended") from None
        raise
    finally:
        if child != 0:
            kernel.setns(usual, kernel.CLONE_NEWPID)
            os.close(usual)
    return child


def _become(
    spaces: Spaces,
    argv: Sequence[str],
    env: Mapping[str, str],
    streams: tuple[int, int, int],
    new_session: bool,
    die_with_parent: bool,
    cwd: str,
) -> None:
    kernel.close_on_exec(3)  # whatever the caller was given by others
    if die_with_parent:
        kernel.die_with_parent(signal.SIGKILL)
    if new_session:
        os.setsid()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGPIPE, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    confinement = spaces.confinement or {}
    if confinement:
        kernel.use_capabilities()
    for path in confinement.get("cgroups", ()):
        with open(path, "w", encoding="ascii") as procs:
            procs.write("0")
    if profile := confinement.get("profile"):
        with open("/proc/self/attr/exec", "w", encoding="ascii") as attribute:
            attribute.write(f"exec {profile}")
    kernel.setns(spaces.net, kernel.CLONE_NEWNET)
    kernel.setns(spaces.uts, kernel.CLONE_NEWUTS)
    if spaces.ipc >= 0:
        kernel.setns(spaces.ipc, kernel.CLONE_NEWIPC)
    if spaces.cgroup >= 0:
        kernel.setns(spaces.cgroup, kernel.CLONE_NEWCGROUP)
    kernel.setns(spaces.mnt, kernel.CLONE_NEWNS)
    for place in (confinement.get("cwd", cwd), "/"):
        with contextlib.suppress(OSError):
            os.chdir(place)
            break
    kernel.filter_calls(_REFUSED_CALLS)
    if confinement:
        _confine(confinement)
        if die_with_parent:  # to change the ids took it back
            kernel.die_with_parent(signal.SIGKILL)
    else:
        kernel.bound_capabilities(CAPABILITIES)
    high = [os.dup(stream) if stream < 3 else stream for stream in streams]
    for target, stream in enumerate(high):
        os.dup2(stream, target, inheritable=True)
    env = {**env, **confinement.get("env", {})}
    if "/" not in argv[0]:
        for folder in env.get("PATH", PATH).split(":"):  # asking first is cheaper than one exception a folder
            if os.access(f"{folder}/{argv[0]}", os.X_OK) and os.path.isfile(f"{folder}/{argv[0]}"):
                os.execve(f"{folder}/{argv[0]}", list(argv), env)
    os.execvpe(argv[0], list(argv), env)


def _confine(confinement: Mapping[str, Any]) -> None:
    """Give up for good what a node's processes shall not have; the kernel's own order of things (capabilities(7))."""
    kernel.drop_capabilities(confinement["capabilities"])
    if confinement.get("ambient"):
        kernel.pass_on_capabilities(confinement["capabilities"])
    if "uid" in confinement:
        os.setgroups(confinement["groups"])
        os.setresgid(*[confinement["gid"]] * 3)
        os.setresuid(*[confinement["uid"]] * 3)
