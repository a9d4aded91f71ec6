"""Talking to a lab's first process, and entering its namespaces. Standard library only."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import select
import socket
import struct
from collections.abc import Mapping, Sequence
from typing import Any

from emulator.errors import CommandFailed
from emulator.run import kernel, spawn

NODES_A_MESSAGE = kernel.FDS_A_MESSAGE // len(spawn.Spaces._fields)


PATIENCE_S = 10.0
"""How long a question may wait for an answer that takes the lab's first process no time, before it is told that it does
not come."""


class LabGone(CommandFailed):
    """The lab's first process does not answer."""


class LabSilent(LabGone):
    """It is there, but it did not answer in time."""


class Control:
    """A connection to the first process of the lab in `directory`.

    `timeout_s` is how long to wait for each answer; without it as long as it takes.
    """

    def __init__(self, directory: str | os.PathLike[str], timeout_s: float | None = None) -> None:
        self.directory = directory
        self.lab = os.path.basename(directory)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
        self._socket.settimeout(timeout_s)
        try:
            folder = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                self._socket.connect(f"/proc/self/fd/{folder}/ctl")
            finally:
                os.close(folder)
        except OSError as error:
            self._socket.close()
            raise LabGone(f"the lab {self.lab} is not running: {error.strerror}") from None

    def __enter__(self) -> Control:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def fileno(self) -> int:
        """The connection, for poll: hung up when the lab's first process has ended."""
        return self._socket.fileno()

    def peer(self) -> int:
        """The process id of the lab's first process, as this process sees it (SO_PEERCRED, unix(7))."""
        credentials = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        pid: int = struct.unpack("3i", credentials)[0]
        return pid

    def peer_handle(self) -> int:
        """A descriptor of the lab's first process (pidfd_open(2)), which can be no other process later.

        Raises:
            OSError: it has ended.
        """
        handle = os.pidfd_open(self.peer())
        connection = select.poll()
        connection.register(self._socket, 0)
        if connection.poll(0):  # hung up: by now the number can be another's
            os.close(handle)
            raise OSError(errno.ESRCH, os.strerror(errno.ESRCH))
        return handle

    def ask(self, do: str, fds: tuple[int, ...] = (), **values: Any) -> tuple[dict[str, Any], list[int]]:
        """Send one request and return the answer and the descriptors that came with it.

        Raises:
            OSError: the first process could not do it; with its reason.
            LabGone: it is no longer there.
            LabSilent: it does not answer in time.
        """
        try:
            kernel.send_message(self._socket, json.dumps({"do": do, **values}).encode(), fds)
            payload, received = kernel.receive_message(self._socket, long=True)
        except TimeoutError:
            raise LabSilent(f"the lab {self.lab} does not answer", hint=f"wirelab down {self.lab}") from None
        except OSError:
            payload, received = b"", []
        if not payload:
            raise LabGone(f"the lab {self.lab} has ended")
        answer = json.loads(payload)
        if "error" in answer:
            for descriptor in received:
                os.close(descriptor)
            raise OSError(answer["errno"], answer["error"])
        return answer, received

    def own_spaces(self) -> Mapping[str, int]:
        """Descriptors of the lab's own namespaces, mnt, uts, ipc, net and pid, of the folder `private`, and of the user
        namespace if the lab has its own."""
        answer, fds = self.ask("hello")
        return dict(zip(answer["spaces"], fds, strict=True))

    def node_spaces(self, nodes: Sequence[str], *, tools: bool = False) -> dict[str, spawn.Spaces]:
        """Descriptors of the namespaces of `nodes`; with `tools` of a container its network, but this machine's files,
        for programs that set it up or look at it."""
        result: dict[str, spawn.Spaces] = {}
        for start in range(0, len(nodes), NODES_A_MESSAGE):
            part = list(nodes[start : start + NODES_A_MESSAGE])
            answer, fds = self.ask("enter", nodes=part, tools=tools)
            numbers = iter(fds)
            for node, (fields, confinement) in zip(part, answer["nodes"], strict=True):
                own = {field: next(numbers) for field in fields}
                result[node] = spawn.Spaces(**own, confinement=confinement)
        return result

    def node_networks(self, nodes: Sequence[str]) -> dict[str, int]:
        """Descriptors of the network namespaces of `nodes` alone."""
        result: dict[str, int] = {}
        for start in range(0, len(nodes), kernel.FDS_A_MESSAGE):
            part = list(nodes[start : start + kernel.FDS_A_MESSAGE])
            _, fds = self.ask("nets", nodes=part)
            result.update(zip(part, fds, strict=True))
        return result

    def settle(self) -> None:
        """Wait until all that the lab's processes see of the machine is there.

        Raises:
            OSError: it cannot be; with the kernel's reason.
        """
        self.ask("settle")

    def view_of_proc(self) -> int:
        """The descriptor of a fresh mount of /proc, as the lab's processes see it."""
        _, fds = self.ask("proc")
        return fds[0]

    def services(self) -> list[dict[str, Any]]:
        """The lab's services and how those that ended ended."""
        return self._services(None, None)

    def service(self, node: str, service: str) -> dict[str, Any] | None:
        """The same of one service; None where it was never started."""
        return next(iter(self._services(node, service)), None)

    def _services(self, node: str | None, service: str | None) -> list[dict[str, Any]]:
        answer, _ = self.ask("services", node=node, service=service)
        services: list[dict[str, Any]] = answer["services"]
        return services


def enter_user(spaces: Mapping[str, int]) -> None:
    """Move this process into the lab's user namespace alone, for good: it has power over the lab, and outlives it.

    The process must have one thread. A lab with containers has no user namespace of its own.
    """
    if "user" not in spaces:
        return
    kernel.setns(spaces["user"], kernel.CLONE_NEWUSER)
    if os.geteuid() != 0:
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)


def enter_lab(spaces: Mapping[str, int]) -> None:
    """Move this process into the lab's user and IPC namespaces, and its children into the PID namespace, for good.

    The process must have one thread. It keeps its own mounts, since the lab's /proc does not know it. In a lab with
    containers each child goes into the PID namespace of its node (`spawn.start`).
    """
    enter_user(spaces)
    kernel.setns(spaces["ipc"], kernel.CLONE_NEWIPC)
    if "user" in spaces:
        kernel.setns(spaces["pid"], kernel.CLONE_NEWPID)


def is_alive(directory: str | os.PathLike[str]) -> bool:
    """Whether a lab's processes hold the lock of its run directory. Where that cannot be told, it does."""
    try:
        descriptor = os.open(os.path.join(directory, "lock"), os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        return error.errno not in (errno.ENOENT, errno.ENOTDIR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: who else asks at this moment is no lab
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False
