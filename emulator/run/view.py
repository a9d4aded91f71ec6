"""What the nodes of a lab see of the machine: its programs, to read, and little else. Standard library only.

A lab file may come from anywhere, and what runs in a node has the authority of the one who started the lab. So the
lab's first process makes a new root for the lab: an empty file system in memory in which there are

    /usr /bin /sbin /lib… /etc      the machine's, read-only; where root started the lab, /etc is a copy of what all
                                    users of the machine may read
    /dev                            null, zero, full, random, urandom, tty, net/tun, and pseudo terminals of its own
    /proc                           the lab's processes; kernel settings but net.* read-only
    /sys                            the node's network, read-only
    /run /tmp /root /var …          empty; each node gets its own

and nothing of homes, other disks, sockets and state of the machine. The old root is detached, or covered where that is
forbidden, so there is no way back by path. Programs in nodes lack CAP_SYS_ADMIN (`emulator.run.spawn`), so they cannot
undo what is mounted here.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import stat
from collections.abc import Collection, Sequence
from typing import NamedTuple

from emulator.run import kernel

PRIVATE_PLACES = (
    "run",
    "tmp",
    "root",
    "dev/shm",
    "var/tmp",
    "var/log",
    "var/lib/misc",
    "var/lib/dhcp",
    "var/lib/unbound",
    "var/lib/nsd",
)
"""Folders of which each node has its own, empty at first, in memory."""

LAB_PLACE = "/.lab"
"""The nodes' own files; a node does not see it."""

_NOTHING = "/.nothing"
"""A folder of the new root that is and stays empty."""

SHARED_PLACE = "/.shared"
"""What the user agreed to share with nodes, by number; a node sees of it what its `binds` name."""

_SOFTWARE = ("usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32", "etc")
_EMPTY = ("home", "media", "mnt", "opt", "srv", "boot", "var/cache", "var/lib", "var/spool")
_LINKS = {"var/run": "/run", "var/lock": "/run/lock"}

_DEVICES = ("null", "zero", "full", "random", "urandom", "tty", "net/tun")
_DEVICE_LINKS = {
    "fd": "/proc/self/fd",
    "stdin": "/proc/self/fd/0",
    "stdout": "/proc/self/fd/1",
    "stderr": "/proc/self/fd/2",
    "ptmx": "pts/ptmx",
}

_PROC_READ_ONLY = (
    "acpi", "asound", "bus", "driver", "fs", "irq", "mtrr", "scsi", "sys", "sysrq-trigger", "tty", "dma", "pressure",
)  # fmt: skip
_PROC_HIDDEN = (
    "kcore", "keys", "kmsg", "kpagecgroup", "kpagecount", "kpageflags", "latency_stats", "pagetypeinfo", "sched_debug",
    "slabinfo", "timer_list", "vmallocinfo", "config.gz", "iomem", "ioports", "key-users",
)  # fmt: skip
"""Files of /proc that root can write or read and that are the machine's, not the lab's."""

_COPY_OCTETS_MAX = 16 << 20
_SEARCHABLE = stat.S_IROTH | stat.S_IXOTH

_HARMLESS = kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC

_FLAGS = (
    (os.ST_RDONLY, kernel.MS_RDONLY),
    (os.ST_NOSUID, kernel.MS_NOSUID),
    (os.ST_NODEV, kernel.MS_NODEV),
    (os.ST_NOEXEC, kernel.MS_NOEXEC),
    (os.ST_NOATIME, 1 << 10),
    (os.ST_NODIRATIME, 1 << 11),
    (os.ST_RELATIME, 1 << 21),
)
"""Flags of a mount as statvfs(3) tells and mount(2) takes them; those that are set must be given again."""


class Shared(NamedTuple):
    """A file or folder of the machine that the user agreed to share: how the lab file names it, its path without links,
    and which one it was then."""

    source: str
    path: str
    device: int
    inode: int


def is_same(entry: Shared) -> bool:
    """Whether at its path is still what the user agreed to share."""
    try:
        info = os.lstat(entry.path)
    except OSError:
        return False
    return (info.st_dev, info.st_ino, os.path.realpath(entry.path)) == (entry.device, entry.inode, entry.path)


def close(private: str, shared: Sequence[Shared], *, as_root: bool) -> Copying | None:
    """Give the calling process, which is the first of new namespaces, and all that it will start the lab's own root.

    Args:
        private: an empty folder of the machine, on which the new root is built.
        shared: what is seen at `SHARED_PLACE`, by number.
        as_root: the machine's root started the lab, so permissions of files do not hold it back.

    Returns:
        The copying of /etc, which goes on: nothing may run in the lab before its end. None where there is no copy.

    Raises:
        OSError: the kernel refuses; or what is to be shared is not what the user agreed to.
    """
    kernel.mount("", "/", "", kernel.MS_REC | kernel.MS_PRIVATE)
    kernel.mount("wirelab", private, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "mode=0755")
    root = os.path.join(private, ".root")
    os.mkdir(root, 0o755)
    kernel.mount("wirelab", root, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "mode=0755")
    for name in (
        *_EMPTY,
        *PRIVATE_PLACES,
        "proc",
        "sys",
        "dev/pts",
        LAB_PLACE[1:],
        SHARED_PLACE[1:],
        _NOTHING[1:],
        ".old",
    ):
        os.makedirs(f"{root}/{name}", exist_ok=True)
    for name, target in _LINKS.items():
        os.symlink(target, f"{root}/{name}")
    for name in _SOFTWARE:
        if name != "etc" or not as_root:
            _software(root, name)
    _devices(root)
    mount_proc(f"{root}/proc")
    with contextlib.suppress(OSError):  # where /sys is partly hidden (containers) there is none
        kernel.mount("sysfs", f"{root}/sys", "sysfs", _HARMLESS | kernel.MS_RDONLY)
    for number, entry in enumerate(shared):
        _share(root, number, entry)
    kernel.mount(private, root + LAB_PLACE, "", kernel.MS_BIND)
    copying = None
    if as_root:
        os.mkdir(f"{root}/etc")
        copying = Copying("/etc", f"{root}/etc")
    _enter(root)
    os.rmdir("/.old")
    os.rmdir(f"{LAB_PLACE}/.root")
    return copying


def _enter(root: str) -> None:
    """Make the mount at `root` the root of the mount namespace and of this process."""
    try:
        kernel.pivot_root(root, f"{root}/.old")
    except OSError as error:
        if error.errno != errno.EPERM:
            raise
        # The engine's seccomp profile forbids it in containers. Moved onto the old root, the new one covers it: no path
        # leads below, since `..` of a root that is mounted on a root stays there.
        own = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        kernel.mount(root, "/", "", kernel.MS_MOVE)
        kernel.setns(own, kernel.CLONE_NEWNS)  # sets root and working folder to the topmost; chroot(2) may be forbidden
        os.close(own)
        return
    os.chdir("/")
    kernel.unmount("/.old")


def read_only(path: str, *, attributes: int = kernel.MOUNT_ATTR_NOSUID | kernel.MOUNT_ATTR_NODEV) -> None:
    """Let nothing be written through the mount at `path` and those below it.

    Args:
        attributes: what is set beside it (MOUNT_ATTR_NOSUID and MOUNT_ATTR_NODEV have the numbers of MS_…).
    """
    try:
        kernel.set_mount_attributes(path, kernel.MOUNT_ATTR_RDONLY | attributes)
    except OSError as error:
        if error.errno != errno.ENOSYS:
            raise
        for place in _mounts_below(path):
            flags = kernel.MS_REMOUNT | kernel.MS_BIND | kernel.MS_RDONLY | attributes
            kernel.mount("", place, "", flags | _set_flags(place))


def _set_flags(path: str) -> int:
    """The flags that the mount at `path` has, which a remount must repeat."""
    found = os.statvfs(path).f_flag
    return sum(mount_flag for flag, mount_flag in _FLAGS if found & flag)


def _mounts_below(path: str) -> list[str]:
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as table:
        places = [line.split()[4].encode("utf-8", "surrogateescape").decode("unicode_escape") for line in table]
    return [place for place in places if place == path or place.startswith(f"{path}/")]


def _software(root: str, name: str) -> None:
    source, target = f"/{name}", f"{root}/{name}"
    if os.path.islink(source):
        os.symlink(os.readlink(source), target)
    elif os.path.isdir(source):
        os.mkdir(target)
        kernel.mount(source, target, "", kernel.MS_BIND | kernel.MS_REC)
        read_only(target)


def _devices(root: str) -> None:
    for name in _DEVICES:
        if os.path.exists(f"/dev/{name}"):
            os.makedirs(os.path.dirname(f"{root}/dev/{name}"), exist_ok=True)
            os.close(os.open(f"{root}/dev/{name}", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644))
            _cover(f"{root}/dev/{name}", f"/dev/{name}")
    with contextlib.suppress(OSError):  # then there are no pseudo terminals
        kernel.mount(
            "devpts",
            f"{root}/dev/pts",
            "devpts",
            kernel.MS_NOSUID | kernel.MS_NOEXEC,
            "newinstance,ptmxmode=0666,mode=0620",
        )
    for name, target in _DEVICE_LINKS.items():
        os.symlink(target, f"{root}/dev/{name}")


def _cover(path: str, source: str) -> None:
    """Let the file `source`, a device of the machine, be seen at `path`. The mount is read-only: that leaves writing to
    the device as it is, and root of a node cannot change the permissions of the machine's /dev/null."""
    kernel.mount(source, path, "", kernel.MS_BIND)
    flags = kernel.MS_REMOUNT | kernel.MS_BIND | kernel.MS_RDONLY | kernel.MS_NOSUID | kernel.MS_NOEXEC
    kernel.mount("", path, "", flags | _set_flags(path))


class Copying:
    """A process that copies what every user of the machine may read of the folder `source` into the folder `target`:
    passwords and keys are not of it. It ends with the calling process."""

    def __init__(self, source: str, target: str) -> None:
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        reading, writing = os.open(source, flags), os.open(target, flags)
        self._said, saying = os.pipe2(os.O_CLOEXEC)
        self._pid = os.fork()
        if self._pid == 0:
            trouble = errno.EIO
            try:
                kernel.die_with_parent(signal.SIGKILL)
                copy_readable(reading, writing)
                trouble = 0
            except OSError as error:
                trouble = error.errno or errno.EIO
            finally:
                os.write(saying, str(trouble).encode())
                os._exit(0)
        for descriptor in (reading, writing, saying):
            os.close(descriptor)

    def wait(self) -> None:
        """Wait for its end.

        Raises:
            OSError: the copy is not whole; with the kernel's reason.
        """
        said = os.read(self._said, 16)
        with contextlib.suppress(ChildProcessError):  # it has been reaped with others
            os.waitpid(self._pid, 0)
        if said != b"0":
            number = int(said or errno.EINTR)
            raise OSError(number, f"copy /etc: {os.strerror(number)}")
        os.close(self._said)


def copy_readable(source: int, target: int) -> None:
    """Copy what every user of the machine may read of one folder into another one, both open.

    Raises:
        OSError: with the kernel's reason.
    """
    with os.scandir(source) as entries:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):  # it went while we looked
                _copy_entry(entry, source, target)


def _copy_entry(entry: os.DirEntry[str], source: int, target: int) -> None:
    name = entry.name
    if entry.is_symlink():
        os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=target)
        return
    info = entry.stat(follow_symlinks=False)
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
    if stat.S_ISDIR(info.st_mode) and info.st_mode & _SEARCHABLE == _SEARCHABLE:
        below = os.open(name, flags | os.O_DIRECTORY, dir_fd=source)
        try:
            os.mkdir(name, dir_fd=target)
            into = os.open(name, flags | os.O_DIRECTORY, dir_fd=target)
            try:
                copy_readable(below, into)
            finally:
                os.close(into)
        finally:
            os.close(below)
    elif stat.S_ISREG(info.st_mode) and info.st_mode & stat.S_IROTH and info.st_size <= _COPY_OCTETS_MAX:
        reading = os.open(name, flags, dir_fd=source)
        try:
            mode = stat.S_IMODE(info.st_mode) & 0o755
            writing = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, mode, dir_fd=target)
            try:
                while part := os.read(reading, 1 << 16):
                    os.write(writing, part)
            finally:
                os.close(writing)
        finally:
            os.close(reading)


def mount_proc(proc: str) -> None:
    """Mount a view of the calling process's PID namespace at `proc`, of the machine's settings nothing to change."""
    try:
        kernel.mount("proc", proc, "proc", _HARMLESS)
    except OSError:  # where /proc is partly hidden (containers) the old view is all there is
        kernel.mount("/proc", proc, "", kernel.MS_BIND | kernel.MS_REC)
    for name in _PROC_READ_ONLY:
        path = f"{proc}/{name}"
        if os.path.exists(path) and not os.path.islink(path):
            kernel.mount(path, path, "", kernel.MS_BIND | kernel.MS_REC)
            read_only(path)
    # A network namespace's own settings are those of whoever has power over it.
    settings = f"{proc}/sys/net"
    kernel.mount(settings, settings, "", kernel.MS_BIND | kernel.MS_REC)
    with contextlib.suppress(OSError):  # where all of /proc/sys is read-only (containers) it stays so
        kernel.mount("", settings, "", kernel.MS_REMOUNT | kernel.MS_BIND | _HARMLESS)
    for name in _PROC_HIDDEN:
        path = f"{proc}/{name}"
        if os.path.lexists(path):
            _cover(path, "/dev/null")


def _share(root: str, number: int, entry: Shared) -> None:
    """Put what is to be shared where `bind` finds it. It is looked up again, and must be what the user agreed to."""
    target = f"{root}{SHARED_PLACE}/{number}"
    descriptor = os.open(entry.path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        info = os.fstat(descriptor)
        here = os.path.realpath(f"/proc/self/fd/{descriptor}")
        if (info.st_dev, info.st_ino) != (entry.device, entry.inode) or here != entry.path:
            raise OSError(errno.ESTALE, f"{entry.path} is no longer what you agreed to share")
        if stat.S_ISDIR(info.st_mode):
            os.mkdir(target)
        else:
            os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644))
        kernel.mount(f"/proc/self/fd/{descriptor}", target, "", kernel.MS_BIND | kernel.MS_REC)
    finally:
        os.close(descriptor)


def protect_shared(count: int, writable: Collection[int]) -> None:
    """In the mount namespace of the caller, which is a node's: let nothing be changed in what was shared under the
    numbers below `count`, but for those in `writable`. So `bind` cannot change more than was agreed to either."""
    for number in range(count):
        if number not in writable:
            read_only(f"{SHARED_PLACE}/{number}")


def bind(number: int, target: str, *, writable: bool) -> None:
    """Show what was shared under `number` at `target`, in the mount namespace of the caller, which is a node's.

    Raises:
        OSError: there is no place for it: only in memory can folders be made for it; or a link on the way leads to what
            is shared, or to another node's files.
    """
    source = f"{SHARED_PLACE}/{number}"
    target = os.path.realpath(target)
    if f"{target}/".startswith((f"{SHARED_PLACE}/", f"{LAB_PLACE}/")):
        raise OSError(errno.ELOOP, f"the way there leads to {target}")
    if os.path.isdir(source):
        os.makedirs(target, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        if not os.path.lexists(target):
            os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644))
    kernel.mount(source, target, "", kernel.MS_BIND | kernel.MS_REC)
    if not writable:
        read_only(target)


def finish_node() -> None:
    """The last step of a node's view, in the node's mount namespace: what it is not given goes, the rest is settled."""
    for place in (LAB_PLACE, SHARED_PLACE):  # covered, which is faster than unmounted, and as good for the node
        kernel.mount(_NOTHING, place, "", kernel.MS_BIND)
    flags = kernel.MS_REMOUNT | kernel.MS_BIND | kernel.MS_RDONLY
    kernel.mount("", "/", "", flags | kernel.MS_NOSUID | kernel.MS_NODEV)
