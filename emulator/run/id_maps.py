"""The ids of a lab's user namespace. Standard library only."""

from __future__ import annotations

import os

from emulator.run import kernel


def map_ids(pid: int) -> None:
    """Map every id that this process has, or its own alone when it may not do more (user_namespaces(7))."""
    if os.geteuid() == 0 and kernel.capabilities() & (1 << 7 | 1 << 6) == (1 << 7 | 1 << 6):
        for name in ("uid_map", "gid_map"):
            with open(f"/proc/self/{name}", encoding="ascii") as own:
                ranges = [line.split() for line in own]
            text = "".join(f"{inside} {inside} {count}\n" for inside, _, count in ranges)
            _write(f"/proc/{pid}/{name}", text)
        return
    _write(f"/proc/{pid}/setgroups", "deny")
    _write(f"/proc/{pid}/uid_map", f"0 {os.geteuid()} 1\n")
    _write(f"/proc/{pid}/gid_map", f"0 {os.getegid()} 1\n")


def _write(path: str, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)
