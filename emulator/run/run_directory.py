"""Making a lab's run directory, and removing it. Standard library only, and little of it: every lab waits for it."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat


def make(directory: str) -> None:
    """Make the run directory with its lock already held: it appears under its name only then, so that nobody takes it
    for one that was left behind. The lock lives as long as the keeper or the init."""
    base, name = os.path.split(directory)
    fresh = os.path.join(base, f".{name}.{os.getpid()}")
    for attempt in range(20):
        try:
            os.makedirs(base, 0o700, exist_ok=True)
            info = os.lstat(base)
            if not stat.S_ISDIR(info.st_mode) or info.st_uid != os.geteuid() or info.st_mode & 0o077:
                raise PermissionError(errno.EPERM, f"{base} is somebody else's")  # made since `running.base` looked
            os.mkdir(fresh, 0o700)
            break
        except FileNotFoundError:  # another lab's keeper removed the empty base folder in between
            if attempt == 19:
                raise
    try:
        lock = os.open(os.path.join(fresh, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.rename(fresh, directory)
    except OSError:
        remove_tree(fresh)
        raise


def remove_tree(folder: str) -> None:
    """Remove `folder` and what is in it, as far as possible. (`shutil` would be half of what this process imports.)"""
    with contextlib.suppress(OSError):
        # By descriptors: another lab may have the name by now, and its files are not to be touched.
        for _, folders, files, parent in os.fwalk(folder, topdown=False):
            for name in (*files, *folders):
                with contextlib.suppress(OSError):
                    _remove(name, parent)
    with contextlib.suppress(OSError):
        os.rmdir(folder)


def _remove(name: str, parent: int) -> None:
    """Remove a file, a link or an empty folder in the folder `parent`."""
    try:
        os.unlink(name, dir_fd=parent)
    except IsADirectoryError:
        os.rmdir(name, dir_fd=parent)
