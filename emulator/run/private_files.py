"""The nodes' own files, reached from outside the nodes: links that a node's programs made lead nowhere. Standard
library only.

The builder sees the machine's files. A program in a node may put a link in its /var/tmp that leads out of it, so no
link is ever followed below the folder of a node.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from pathlib import Path

_STEPS_MAX = 64
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def create(folder: Path, path: str, mode: int) -> int:
    """A descriptor of the new and empty, or emptied, file `path` below `folder`; folders on the way are made.

    Raises:
        OSError: there is a link on the way, or something that is no file.
    """
    *parts, name = [part for part in path.split("/") if part]
    descriptor = os.open(folder.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in (folder.name, *parts):
            with contextlib.suppress(FileExistsError):
                os.mkdir(part, 0o755, dir_fd=descriptor)
            below = os.open(part, _FOLDER, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = below
        flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        file = os.open(name, flags, mode, dir_fd=descriptor)
    finally:
        os.close(descriptor)
    try:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise OSError(errno.EEXIST, "there is something that is no file")
        os.ftruncate(file, 0)
        os.fchmod(file, mode)
    except OSError:
        os.close(file)
        raise
    return file


def exists(folder: Path, path: str) -> bool:
    """Whether there is `path` below `folder`, a link that leads nowhere included. Links on the way are followed as the
    node would, for which `folder` is the root."""
    of_process = str(folder.parent.parent) == "/proc"  # /proc/PID/root: the kernel's own link (proc(5))
    try:
        root = os.open(folder, _FOLDER & ~os.O_NOFOLLOW if of_process else _FOLDER)
    except OSError:
        return False
    descriptor = os.dup(root)
    waiting = _parts(path)
    try:
        for _ in range(_STEPS_MAX):
            part = waiting.pop(0)
            if not waiting:
                os.stat(part, dir_fd=descriptor, follow_symlinks=False)
                return True
            try:
                below = os.open(part, _FOLDER, dir_fd=descriptor)
            except OSError as error:
                if error.errno not in (errno.ELOOP, errno.ENOTDIR):
                    raise
                link = os.readlink(part, dir_fd=descriptor)
                if ".." in link.split("/"):
                    return False
                waiting = [*_parts(link), *waiting]
                below = os.dup(root if link.startswith("/") else descriptor)
            os.close(descriptor)
            descriptor = below
    except (OSError, IndexError):
        return False
    finally:
        os.close(descriptor)
        os.close(root)
    return False


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", ".")]
