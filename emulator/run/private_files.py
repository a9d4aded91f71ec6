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
    """Whether there is `path` below `folder`, a link that leads nowhere included."""
    *parts, name = [part for part in path.split("/") if part]
    try:
        descriptor = os.open(folder.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        for part in (folder.name, *parts):
            below = os.open(part, _FOLDER, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = below
        os.stat(name, dir_fd=descriptor, follow_symlinks=False)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True
