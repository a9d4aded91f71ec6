"""The files of containers, read and written in their own mount namespaces, where no link leads out of them."""

from __future__ import annotations

import contextlib
import json
import os
import stat
from collections.abc import Callable, Iterable, Sequence

from emulator.errors import CommandFailed
from emulator.run import kernel

_USERS_FILES = ("/etc/passwd", "/etc/group")
_AT_MOST = 4 << 20
"""More octets than this no file of users has."""
_HIGHEST_ID = (1 << 31) - 1
_PLAIN = os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
"""Whatever an image has at a path, to open it neither waits nor does anything."""

Action = Callable[[], Sequence[str]]
"""What is done in a container's files; it returns texts."""


def in_files(works: Iterable[tuple[str, int, Action]]) -> list[Sequence[str]]:
    """Do something in the mount namespaces of containers, in a child for that reason, one for all of them.

    Args:
        works: the node, a descriptor of its mount namespace, and what to do there.

    Returns:
        What each returned.

    Raises:
        CommandFailed: with the kernel's reason.
    """
    here, there = os.pipe2(os.O_CLOEXEC)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(here)
            with os.fdopen(there, "w", encoding="utf-8", errors="surrogateescape") as stream:
                json.dump(_do(works), stream)
            status = 0
        finally:
            os._exit(status)
    os.close(there)
    with os.fdopen(here, encoding="utf-8", errors="surrogateescape") as stream:
        said = stream.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status != 0:
        how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
        raise CommandFailed(f"cannot reach the files of containers: the process that does it {how}")
    answer = json.loads(said)
    if "trouble" in answer:
        raise CommandFailed(f"cannot reach the files of the container of {answer['trouble']}")
    found: list[Sequence[str]] = answer["texts"]
    return found


def _do(works: Iterable[tuple[str, int, Action]]) -> dict[str, object]:
    texts = []
    for node, mnt, action in works:
        try:
            kernel.setns(mnt, kernel.CLONE_NEWNS)
            texts.append(list(action()))
        except OSError as error:
            reason = f"{error.filename or ''}: {error.strerror or error}".lstrip(": ")
            return {"trouble": f"{node}: {reason}"}
        except Exception as error:  # a boundary: what went wrong there is told here
            return {"trouble": f"{node}: {error!r}"}
    return {"texts": texts}


def prepare() -> Sequence[str]:
    """Let the container's root change the kernel settings of the container's own network (sysctl(8) in steps), which
    are all that is below /proc/sys/net there; the engine mounts /proc/sys read-only. Returns passwd(5) and group(5)."""
    place = "/proc/sys/net"
    kernel.mount(place, place, "", kernel.MS_BIND)
    safe = kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC
    kernel.mount("", place, "", kernel.MS_REMOUNT | kernel.MS_BIND | safe)
    return [read_file(path) for path in _USERS_FILES]


def read_file(path: str) -> str:
    """The text of a file; nothing where there is none, or what is there is no regular file.

    Raises:
        OSError: it is longer than a file of users can be.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | _PLAIN)
    except OSError:
        return ""
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        return ""
    with open(descriptor, "rb") as stream:
        octets = stream.read(_AT_MOST + 1)
    if len(octets) > _AT_MOST:
        raise OSError(0, f"it has more than {_AT_MOST >> 20} MiB", path)
    return octets.decode(errors="replace")


def write_files(entries: Iterable[tuple[str, bytes, int]], uid: int, gid: int) -> Sequence[str]:
    """Files and the folders that they lack are those of the node's user; those of the engine's own, such as /etc/hosts,
    keep their owner and mode.

    Args:
        entries: the path, the content, and the mode of a file.

    Raises:
        OSError: with the kernel's reason; or what is there is no regular file.
    """
    for path, octets, mode in entries:
        parts = path.strip("/").split("/")[:-1]
        for depth in range(1, len(parts) + 1):
            folder = "/" + "/".join(parts[:depth])
            with contextlib.suppress(FileExistsError):
                os.mkdir(folder)
                os.chown(folder, uid, gid)
        fresh = not os.path.exists(path)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | _PLAIN, mode)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise OSError(0, "it is no regular file", path)
        with open(descriptor, "wb") as stream:
            os.ftruncate(descriptor, 0)
            if fresh:
                os.fchmod(descriptor, mode)
                os.fchown(descriptor, uid, gid)
            stream.write(octets)
    return ()


def identity(user: str, passwd: str, group: str) -> tuple[int, int, list[int]]:
    """User id, group id and groups of `user` (`name`, `uid`, `name:group` …; nothing is root), as the engine reads them
    from the texts of passwd(5) and group(5). Lines whose ids are no numbers do not count.

    Raises:
        CommandFailed: there is no such user or group.
    """
    name, _, wanted = user.partition(":")
    users = [row for row in _rows(passwd, 7) if _is_id(row[2]) and _is_id(row[3])]
    groups = [row for row in _rows(group, 4) if _is_id(row[2])]
    name = name or "0"
    found = next((row for row in users if name in (row[0], row[2])), None)
    if found is None and not _is_id(name):
        raise CommandFailed(f"the image has no user {name}")
    uid, gid = (int(found[2]), int(found[3])) if found else (int(name), 0)
    others = sorted({int(row[2]) for row in groups if found and found[0] in row[3].split(",")})
    if wanted:
        row = next((row for row in groups if wanted in (row[0], row[2])), None)
        if row is None and not _is_id(wanted):
            raise CommandFailed(f"the image has no group {wanted}")
        gid, others = int(row[2]) if row else int(wanted), []
    return uid, gid, sorted({gid, *others})


def _rows(text: str, fields: int) -> list[list[str]]:
    return [line.split(":") for line in text.splitlines() if line.count(":") >= fields - 1]


def _is_id(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 10 and int(text) <= _HIGHEST_ID
