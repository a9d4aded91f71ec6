"""Writing kernel settings of network namespaces. Standard library only."""

from __future__ import annotations

import os
from collections.abc import Callable

NAMESPACES_A_VIEW = 32


class Settings:
    """Writes settings (proc_sys_net(5)) of the network namespace of the calling thread, of one after the other.

    The kernel keeps the names that were looked up in /proc/sys/net, those of all namespaces in one place under the same
    key: with a thousand namespaces to go through, opening a file there takes longer than making a namespace. Each mount
    of /proc has names of its own, so we take a fresh one for every few namespaces, and none of them is seen anywhere.
    Where no new one may be made, as in some containers, the machine's serves, only slower.
    """

    def __init__(self, new_view: Callable[[], int]) -> None:
        """`new_view` gives the descriptor of a fresh mount of /proc, or raises OSError."""
        self._new_view = new_view
        self._view = -1
        self._left = 0

    def in_new_namespace(self) -> None:
        """The calling thread has just entered another network namespace for the first time."""
        self._left -= 1
        if self._left >= 0:
            return
        self.close()
        self._left = NAMESPACES_A_VIEW - 1
        try:
            self._view = self._new_view()
        except OSError:
            self._left = 1 << 62  # never again

    def close(self) -> None:
        """Give the view back."""
        if self._view >= 0:
            os.close(self._view)
            self._view = -1

    def write(self, key: str, value: str) -> None:
        """Set `key`, written with dots.

        Raises:
            OSError: the kernel has no such setting, or refuses the value.
        """
        path = f"sys/{key.replace('.', '/')}"
        flags = os.O_WRONLY | os.O_CLOEXEC
        descriptor = os.open(f"/proc/{path}", flags) if self._view < 0 else os.open(path, flags, dir_fd=self._view)
        try:
            os.write(descriptor, value.encode())
        finally:
            os.close(descriptor)
