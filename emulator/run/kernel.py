"""Kernel calls that Python 3.11 lacks: one function a call, standard library and ctypes only.

Imports nothing of the project: the lab's first process runs this with no packages in reach.
Each function raises OSError with the kernel's reason and the name of what failed. Sources: the man pages
namespaces(7), user_namespaces(7), setns(2), unshare(2), mount(2), prctl(2), unix(7).
"""

from __future__ import annotations

import array
import contextlib
import ctypes
import errno
import os
import socket
import struct
from collections.abc import Callable, Iterable

CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
CLONE_NEWCGROUP = 0x02000000

_KINDS = {
    CLONE_NEWNS: "mnt",
    CLONE_NEWUTS: "uts",
    CLONE_NEWIPC: "ipc",
    CLONE_NEWUSER: "user",
    CLONE_NEWPID: "pid",
    CLONE_NEWNET: "net",
    CLONE_NEWCGROUP: "cgroup",
}

MS_RDONLY = 0x1
MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_NOEXEC = 0x8
MS_REMOUNT = 0x20
MS_BIND = 0x1000
MS_MOVE = 0x2000
MS_REC = 0x4000
MS_PRIVATE = 0x40000
MS_SLAVE = 0x80000

MNT_DETACH = 0x2

PR_SET_PDEATHSIG = 1
PR_SET_NAME = 15
PR_SET_SECCOMP = 22
PR_CAPBSET_READ = 23
PR_CAPBSET_DROP = 24
PR_SET_CHILD_SUBREAPER = 36
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
SECCOMP_MODE_FILTER = 2

MOUNT_ATTR_RDONLY = 0x1
MOUNT_ATTR_NOSUID = 0x2
MOUNT_ATTR_NODEV = 0x4
_SYS_MOUNT_SETATTR = 442
"""The same number on all machines but Alpha, where the call is not found and ENOSYS is the answer."""
_AT_RECURSIVE = 0x8000

FDS_A_MESSAGE = 200
"""File descriptors sent in one message; the kernel takes at most 253 (SCM_MAX_FD)."""

MESSAGE_OCTETS = 64 << 10
"""Octets of a message that are sent as such."""

_IN_MEMORY = b"in memory"
"""What is sent in the place of a longer message, which is in the last of the files beside it. No JSON looks like it."""

_LINUX_CAPABILITY_VERSION_3 = 0x20080522
# The same numbers on all architectures but Alpha (asm-generic/unistd.h, linux/mount.h).
_SYS_FSOPEN, _SYS_FSCONFIG, _SYS_FSMOUNT = 430, 431, 432
_SYS_CLOSE_RANGE = 436
_CLOSE_RANGE_CLOEXEC = 4
_CLOEXEC = 1
_FSCONFIG_CMD_CREATE = 6

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def unshare(flags: int) -> None:
    """Move the caller into new namespaces of the kinds in `flags`."""
    _check(_libc.unshare(flags), "unshare")


def setns(fd: int, flags: int) -> None:
    """Move the caller into the namespace that `fd` refers to, which must be of the kind in `flags`."""
    _check(_libc.setns(fd, flags), f"setns {_KINDS.get(flags, '')}".rstrip())


def mount(source: str, target: str, kind: str = "", flags: int = 0, options: str = "") -> None:
    """Mount `source` on `target`."""
    result = _libc.mount(source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), options.encode())
    _check(result, f"mount {target}")


def unmount(target: str) -> None:
    """Take away what is mounted on `target`, with all below it; who has it open keeps it."""
    _check(_libc.umount2(target.encode(), MNT_DETACH), f"unmount {target}")


def pivot_root(new: str, old: str) -> None:
    """Make the mount at `new` the root of this mount namespace, and move the old root to `old`, which is below it."""
    _check(_libc.pivot_root(new.encode(), old.encode()), "pivot_root")


def set_mount_attributes(path: str, attributes: int) -> None:
    """Set `attributes` (MOUNT_ATTR_…) on the mount at `path` and on all below it (mount_setattr(2), Linux 5.12)."""
    values = (ctypes.c_uint64 * 4)(attributes, 0, 0, 0)
    numbers = (ctypes.c_long(_SYS_MOUNT_SETATTR), ctypes.c_int(-1))
    flags, size = ctypes.c_uint(_AT_RECURSIVE), ctypes.c_size_t(ctypes.sizeof(values))
    _check(_libc.syscall(*numbers, path.encode(), flags, ctypes.byref(values), size), f"mount_setattr {path}")


def new_proc() -> int:
    """A descriptor of a fresh mount of the proc file system that is seen nowhere and ends with the descriptor
    (fsopen(2), fsmount(2), Linux 5.2). The caller's mount and PID namespaces must belong to its user namespace."""
    settings = _libc.syscall(_SYS_FSOPEN, b"proc", _CLOEXEC)
    _check(settings, "fsopen")
    try:
        _check(_libc.syscall(_SYS_FSCONFIG, settings, _FSCONFIG_CMD_CREATE, None, None, 0), "fsconfig")
        mounted: int = _libc.syscall(_SYS_FSMOUNT, settings, _CLOEXEC, MS_NOSUID | MS_NODEV | MS_NOEXEC)
        _check(mounted, "fsmount")
    finally:
        os.close(settings)
    return mounted


def sethostname(name: str) -> None:
    """Set the host name of the caller's UTS namespace."""
    octets = name.encode()
    _check(_libc.sethostname(octets, len(octets)), "sethostname")


def die_with_parent(signal_number: int) -> None:
    """Ask for `signal_number` when the thread that made this process ends."""
    _check(_libc.prctl(PR_SET_PDEATHSIG, signal_number, 0, 0, 0), "prctl")


def adopt_orphans() -> None:
    """Become the parent of descendants whose own parent ends."""
    _check(_libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), "prctl")


def set_process_name(name: str) -> None:
    """Set the name shown by ps (at most 15 octets)."""
    _check(_libc.prctl(PR_SET_NAME, name.encode()[:15], 0, 0, 0), "prctl")


def capabilities(kind: str = "Eff") -> int:
    """The capabilities of the calling process, as a bit set: the effective ones, or the permitted ones (`Prm`)."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as status:
        for line in status:
            if line.startswith(f"Cap{kind}:"):
                return int(line.split()[1], 16)
    return 0


CAPABILITIES = [
    "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP",
    "LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER",
    "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE",
    "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP",
    "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF",
    "CHECKPOINT_RESTORE",
]  # fmt: skip
"""The names of the capabilities by their numbers (linux/capability.h)."""


def capability_set(names: Iterable[str]) -> int:
    """The bit set of capabilities; names that the kernel does not have are left out."""
    return sum(1 << CAPABILITIES.index(name) for name in set(names) if name in CAPABILITIES)


def bound_capabilities(keep: int) -> None:
    """Take every capability that is not in the bit set `keep` out of the bounding set: no program that this process
    becomes gets it by being root's (capabilities(7))."""
    number = 0
    while _libc.prctl(PR_CAPBSET_READ, number, 0, 0, 0) >= 0:
        if not keep >> number & 1:
            _check(_libc.prctl(PR_CAPBSET_DROP, number, 0, 0, 0), "prctl")
        number += 1


def drop_capabilities(keep: int) -> None:
    """Take every capability that is not in the bit set `keep` out of the bounding set, and out of what is inherited: a
    program that this process becomes cannot have it, whoever it runs as (capabilities(7))."""
    bound_capabilities(keep)
    _set_inheritable(0)


def pass_on_capabilities(wanted: int) -> None:
    """Let the program that this process becomes have the capabilities of the bit set `wanted`, though it is no root's:
    they become ambient (capabilities(7)). The process must have them."""
    _set_inheritable(wanted)
    for number in range(wanted.bit_length()):
        if wanted >> number & 1:
            _check(_libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, number, 0, 0), "prctl")


def use_capabilities(*, without: int = 0) -> None:
    """Let all permitted capabilities be effective but those in the bit set `without`. Programs that this process starts
    get ambient ones all the same."""
    _change_sets(lambda _effective, permitted, inheritable: (permitted & ~without, permitted, inheritable))


def _set_inheritable(wanted: int) -> None:
    """What is not in `wanted` ceases to be ambient as well."""
    _change_sets(lambda effective, permitted, _inheritable: (effective, permitted, wanted))


def _change_sets(change: Callable[[int, int, int], tuple[int, int, int]]) -> None:
    """Change the effective, permitted and inheritable capabilities (capget(2), version 3: lower and higher halves)."""
    header = struct.pack("=Ii", _LINUX_CAPABILITY_VERSION_3, 0)
    words = ctypes.create_string_buffer(24)
    _check(_libc.capget(header, words), "capget")
    halves = struct.unpack("=6I", words.raw[:24])
    sets = change(*(halves[index] | halves[index + 3] << 32 for index in range(3)))
    words.raw = struct.pack("=6I", *(one & 0xFFFFFFFF for one in sets), *(one >> 32 for one in sets))
    _check(_libc.capset(header, words), "capset")


def filter_calls(program: bytes) -> None:
    """Let the filter `program` (classic BPF) decide, from now on and for all that this process becomes, which calls to
    the kernel are carried out (seccomp(2)). The process must have CAP_SYS_ADMIN in its user namespace. A kernel that is
    built without such filters goes on without it."""
    octets = ctypes.create_string_buffer(program, len(program))
    filter_of = struct.pack("@HP", len(program) // 8, ctypes.addressof(octets))
    try:
        _check(_libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, filter_of, 0, 0), "seccomp")
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOSYS):
            raise


def close_on_exec(first: int) -> None:
    """Let no program that this process becomes have the descriptor `first` or one above it (close_range(2), Linux
    5.11)."""
    last, flags = ctypes.c_uint(0xFFFFFFFF), ctypes.c_int(_CLOSE_RANGE_CLOEXEC)
    if _libc.syscall(ctypes.c_long(_SYS_CLOSE_RANGE), ctypes.c_uint(first), last, flags) == 0:
        return
    try:
        numbers = [int(name) for name in os.listdir("/proc/self/fd")]
    except OSError:  # no /proc that knows this process
        import resource

        numbers = list(range(resource.getrlimit(resource.RLIMIT_NOFILE)[0]))
    for number in numbers:
        if number >= first:
            with contextlib.suppress(OSError):
                os.set_inheritable(number, False)


def send_message(sock: socket.socket, payload: bytes, fds: tuple[int, ...] = ()) -> None:
    """Send one message on a SOCK_SEQPACKET socket, with file descriptors beside it.

    A message must fit the socket's buffer as a whole (`wmem_default`, socket(7)); a long one goes as a file in memory.
    """
    if len(payload) <= MESSAGE_OCTETS:
        _send(sock, payload, fds)
        return
    memory = os.memfd_create("message", os.MFD_CLOEXEC)
    try:
        with open(memory, "wb", closefd=False) as file:
            file.write(payload)
        _send(sock, _IN_MEMORY, (*fds, memory))
    finally:
        os.close(memory)


def _send(sock: socket.socket, payload: bytes, fds: tuple[int, ...]) -> None:
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    sock.sendmsg([payload], ancillary)


def receive_message(sock: socket.socket, limit: int = 1 << 20, *, long: bool = False) -> tuple[bytes, list[int]]:
    """Receive one message and the descriptors that came with it. An empty payload means that the peer is gone.

    With `long` it may be in a file, which only a peer that is trusted can be asked to have made well.
    """
    space = socket.CMSG_SPACE((FDS_A_MESSAGE + 1) * struct.calcsize("i"))
    payload, ancillary, flags, _address = sock.recvmsg(limit, space, socket.MSG_CMSG_CLOEXEC)
    fds = array.array("i")
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
    if flags & socket.MSG_CTRUNC:  # this process may not open as many files as came
        for descriptor in fds:
            os.close(descriptor)
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    if not long or payload != _IN_MEMORY or not fds:
        return payload, list(fds)
    memory = fds.pop()
    try:
        return os.pread(memory, os.fstat(memory).st_size, 0), list(fds)
    finally:
        os.close(memory)
