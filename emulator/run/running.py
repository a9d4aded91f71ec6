"""Which labs run, and what is known about one. Standard library only, and little of it: `exec` shall be instant, so
paths are plain text here (importing `pathlib` takes as long as running a command).
"""

from __future__ import annotations

import contextlib
import os
import stat
from typing import Any

from emulator.errors import MachineError, UsageError

FAULTS = "faults.json"
"""In the run directory of a lab that has had faults: `emulator.run.fault_file`."""


def base() -> str:
    """The folder of this user's run directories.

    Raises:
        MachineError: it exists, but belongs to someone else or is open to others.
    """
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    with contextlib.suppress(OSError):
        info = os.stat(runtime if runtime.startswith("/") else "")
        if info.st_uid == os.geteuid() and not info.st_mode & 0o022 and os.access(runtime, os.W_OK):
            return _own(os.path.join(runtime, "wirelab"))
    return _own(f"/tmp/wirelab-{os.geteuid()}")  # noqa: S108 - ownership and mode are checked


def _own(folder: str) -> str:
    with contextlib.suppress(FileNotFoundError):
        info = os.lstat(folder)
        if not stat.S_ISDIR(info.st_mode) or info.st_uid != os.geteuid() or info.st_mode & 0o077:
            raise MachineError(
                f"{folder} is not a private folder of yours", hint=f"remove it, or set XDG_RUNTIME_DIR: ls -ld {folder}"
            )
    return folder


def names() -> list[str]:
    """The names of the running labs."""
    place = base()
    with contextlib.suppress(OSError):
        return sorted(
            name
            for name in os.listdir(place)
            if not name.startswith(".") and os.path.exists(os.path.join(place, name, "lab.json"))
        )
    return []


def directory(name: str) -> str:
    """The run directory of the running lab `name`.

    Raises:
        UsageError: no lab of that name runs.
    """
    found = os.path.join(base(), name) if name[:1] not in ("", ".") and "/" not in name else None
    if found is None or not os.path.exists(os.path.join(found, "lab.json")):
        running = ", ".join(names())
        raise UsageError(
            f"no lab called {name} is running", hint=f"running: {running}" if running else "wirelab up LAB"
        )
    return found


def facts(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """What the lab's builder wrote down about it."""
    import json  # here, since `up` starts a lab before it needs this

    try:
        with open(os.path.join(folder, "lab.json"), encoding="utf-8") as stream:
            loaded: dict[str, Any] = json.load(stream)
    except (OSError, ValueError):
        raise UsageError(f"the lab {os.path.basename(folder)} is being taken down") from None
    return loaded
