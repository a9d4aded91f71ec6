"""Stopping, continuing and switching off a node: what the lab's first process does to it. Standard library only.

A process is *of* a node when its network namespace is the node's: services, programs, background steps, `exec`. The
calling process sees all of them, as it is the first of the lab's PID namespace.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import socket
import struct
import time
from collections.abc import Callable, Iterable

from emulator.run import kernel
from emulator.run.run_directory import remove_tree

VOLATILE_PLACES = ("run", "tmp", "dev/shm")
"""What a node forgets when it is switched off (hier(7)); /etc and /var stand for its disk."""

_SETTLED_S = 3.0
"""How long a signal to all processes of a node may take. One that waits for a disk can take longer, and is an error."""

_LOOK_AGAIN_S = 0.002
_STOPPED = frozenset("TtZX")
_ENDED = frozenset("ZX")
_RTM_NEWLINK = 16
_NLMSG_ERROR = 2
_NLM_F_REQUEST_ACK = 0x1 | 0x4
_IFLA_NET_NS_FD = 28
_IFF_UP = 1


def processes(namespace: int) -> dict[int, str]:
    """The processes whose network namespace is the one that the descriptor `namespace` refers to: id → state, as in
    proc(5). Threads are those of their process; zombies have left their namespaces.

    Raises:
        OSError: this process's own /proc cannot be seen.
    """
    if os.readlink("/proc/self") != str(os.getpid()):
        raise OSError(errno.EOPNOTSUPP, "the lab's processes cannot be seen: the kernel refused it a /proc of its own")
    wanted = os.fstat(namespace).st_ino
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            with contextlib.suppress(OSError):
                if os.stat(f"/proc/{name}/ns/net").st_ino == wanted:
                    found[int(name)] = _state(name)
    return found


def _state(pid: str) -> str:
    with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as stream:
        return stream.read().rpartition(")")[2].split()[0]


def _stands(pid: int, state: str) -> bool:
    """Whether a process does nothing any more: it is stopped, or waits in the kernel and stops before its next step.

    Who waits in vfork(2) for a child that was stopped before it could start its program waits for ever.
    """
    return state in _STOPPED or (state == "D" and _is_pending(pid, signal.SIGSTOP))


def _is_pending(pid: int, number: int) -> bool:
    """Whether a signal waits for a process (SigPnd and ShdPnd of proc_pid_status(5), masks in hexadecimal)."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as stream:
        for line in stream:
            name, _, value = line.partition(":")
            if name in ("SigPnd", "ShdPnd") and int(value, 16) >> (number - 1) & 1:
                return True
    return False


def _signal(pids: Iterable[int], number: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def stop(namespace: int) -> int:
    """Stop (SIGSTOP) all processes of a node, those too that they start meanwhile; returns how many there are.

    Raises:
        OSError: one of them does not stop.
    """
    return _all(namespace, signal.SIGSTOP, _stands, lambda: None)


def end(namespace: int, reap: Callable[[], None]) -> int:
    """End (SIGKILL) all processes of a node; returns how many there were. `reap` takes the exit statuses of children.

    Raises:
        OSError: one of them does not end.
    """
    count = stop(namespace)  # what stands still starts nothing new
    _all(namespace, signal.SIGKILL, lambda _, state: state in _ENDED, reap)
    return count


def go_on(namespace: int) -> None:
    """Let all processes of a node go on (SIGCONT)."""
    _signal(processes(namespace), signal.SIGCONT)


def _all(namespace: int, number: int, is_so: Callable[[int, str], bool], reap: Callable[[], None]) -> int:
    deadline = time.monotonic() + _SETTLED_S
    while True:
        reap()
        found = processes(namespace)
        others = [pid for pid, state in found.items() if not is_so(pid, state)]
        if not others:
            return len(found)
        if time.monotonic() >= deadline:
            raise OSError(errno.EBUSY, f"process {others[0]} of the lab does not take signal {number}")
        _signal(others, number)
        time.sleep(_LOOK_AGAIN_S)


def fresh_namespace(back: int) -> int:
    """A descriptor of a new, empty network namespace; the caller returns to the one of the descriptor `back`."""
    try:
        kernel.unshare(kernel.CLONE_NEWNET)
        return os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        kernel.setns(back, kernel.CLONE_NEWNET)


def switch_off(namespace: int, interfaces: Iterable[str], back: int) -> None:
    """Switch interfaces of a node off, so that nothing that ends in it is heard outside any more."""
    _change(namespace, interfaces, back, _link(flags=0, change=_IFF_UP))


def move(namespace: int, interfaces: Iterable[str], target: int, back: int) -> None:
    """Move interfaces into the namespace `target`. They keep index, name, MAC and cable, and lose everything else."""
    attribute = struct.pack("=HHI", 8, _IFLA_NET_NS_FD, target)
    _change(namespace, interfaces, back, _link(flags=0, change=0) + attribute)


def interfaces(namespace: int, back: int) -> list[str]:
    """The names of the interfaces in a namespace, the loopback interface excepted."""
    try:
        kernel.setns(namespace, kernel.CLONE_NEWNET)
        return [name for _, name in socket.if_nameindex() if name != "lo"]
    finally:
        kernel.setns(back, kernel.CLONE_NEWNET)


def _link(flags: int, change: int) -> bytes:
    """struct ifinfomsg of an interface whose index is filled in later (rtnetlink(7))."""
    return struct.pack("=BxHiII", socket.AF_UNSPEC, 0, 0, flags, change)


def _change(namespace: int, interfaces: Iterable[str], back: int, body: bytes) -> None:
    try:
        kernel.setns(namespace, kernel.CLONE_NEWNET)
        indexes = {name: index for index, name in socket.if_nameindex()}
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE) as sock:
            for number, name in enumerate(interfaces, 1):
                if name in indexes:  # somebody in the node may have taken it away
                    own = body[:4] + struct.pack("=i", indexes[name]) + body[8:]
                    header = struct.pack("=IHHII", 16 + len(own), _RTM_NEWLINK, _NLM_F_REQUEST_ACK, number, 0)
                    sock.send(header + own)
                    _acknowledged(sock.recv(65536), name)
    finally:
        kernel.setns(back, kernel.CLONE_NEWNET)


def _acknowledged(answer: bytes, name: str) -> None:
    _length, kind = struct.unpack_from("=IH", answer)
    (code,) = struct.unpack_from("=i", answer, 16)
    if kind == _NLMSG_ERROR and code:
        raise OSError(-code, f"{name}: {os.strerror(-code)}")


def forget(home: str) -> None:
    """Empty the places of a node that do not outlive its power; `home` is the folder with its own files."""
    for place in VOLATILE_PLACES:
        folder = os.path.join(home, place)
        with contextlib.suppress(FileNotFoundError):
            for entry in os.scandir(folder):
                if entry.is_dir(follow_symlinks=False):
                    remove_tree(entry.path)
                else:
                    os.unlink(entry.path)
