"""What each node of a lab sees as its own: mounts, files and a host name. The lab's first process makes it when
something first runs in the node. Standard library only.
"""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import signal
from collections.abc import Mapping, Sequence
from typing import Any

from emulator.run import kernel, spawn, view

OWN_FILES = ("etc/hosts", "etc/resolv.conf", "etc/hostname")


class Places:
    """The nodes' places. The calling process is in the namespaces `own`, to which it returns each time."""

    def __init__(self, own: Mapping[str, int], shared: Sequence[view.Shared], *, containers: bool) -> None:
        """`containers`: the process is not in the PID namespace of the nodes, only its children are."""
        self._own = own
        self._shared = shared
        self._containers = containers
        self._binds: dict[str, dict[str, tuple[int, bool]]] = {}

    def bind(self, request: Mapping[str, Any]) -> None:
        """Let a node, for which nothing is made yet, see something that the user agreed to share.

        Raises:
            OSError: the user did not.
        """
        numbers = [number for number, shared in enumerate(self._shared) if shared.source == request["source"]]
        if not numbers:
            raise OSError(errno.EPERM, "the user did not agree to share it")
        self._binds.setdefault(request["node"], {})[request["target"]] = numbers[0], request["writable"] is True

    def is_bound(self, request: Mapping[str, Any]) -> bool:
        """Whether the node sees it already."""
        found = self._binds.get(request["node"], {}).get(request["target"])
        return found is not None and (self._shared[found[0]].source, found[1]) == (
            request["source"],
            request["writable"] is True,
        )

    def make(self, name: str, net: int, confinement: Mapping[str, Any] | None) -> spawn.Spaces:
        """The namespaces of the node whose network namespace is `net`."""
        home = os.path.join(view.LAB_PLACE, name)
        try:
            kernel.unshare(kernel.CLONE_NEWNS | kernel.CLONE_NEWUTS)
            kernel.sethostname(name)
            kernel.setns(net, kernel.CLONE_NEWNET)
            with contextlib.suppress(OSError):  # without its own /sys a node sees the lab's; nothing of ours reads it
                flags = kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC | kernel.MS_RDONLY
                kernel.mount("sysfs", "/sys", "sysfs", flags)
            for place in view.PRIVATE_PLACES:
                own = os.path.join(home, place)
                os.makedirs(own, exist_ok=True)
                if place in ("tmp", "dev/shm", "var/tmp"):
                    os.chmod(own, 0o1777)  # noqa: S103 - the usual mode of /tmp
                kernel.mount(own, f"/{place}", "", kernel.MS_BIND)
            os.makedirs(os.path.join(home, "etc"), exist_ok=True)
            for file in OWN_FILES:
                _own_file(home, name, file)
            binds = self._binds.get(name, {})
            if binds:
                view.protect_shared(len(self._shared), {number for number, writable in binds.values() if writable})
            for target, (number, writable) in binds.items():
                view.bind(number, target, writable=writable)
            flags = os.O_RDONLY | os.O_CLOEXEC
            mnt, uts = os.open("/proc/self/ns/mnt", flags), os.open("/proc/self/ns/uts", flags)
            if self._containers:
                _proc_of_nodes()  # from here on this process is not in /proc
            view.finish_node()
            if self._containers:
                return spawn.Spaces(net, mnt, uts, pid=self._own["pid"], confinement=confinement)
            return spawn.Spaces(net, mnt, uts)
        finally:
            kernel.setns(self._own["mnt"], kernel.CLONE_NEWNS)
            kernel.setns(self._own["uts"], kernel.CLONE_NEWUTS)
            kernel.setns(self._own["net"], kernel.CLONE_NEWNET)


class ControlGroups:
    """The places where control groups are mounted, held open: in the lab's own root there are none."""

    def __init__(self) -> None:
        self._points: dict[str, int] = {}
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as table:
            rows = [line.partition(" - ") for line in table]
        for before, _, after in rows:
            if after.split(" ")[0] in ("cgroup", "cgroup2"):
                place = before.split(" ")[4].encode("utf-8", "surrogateescape").decode("unicode_escape")
                with contextlib.suppress(OSError):
                    self._points[place] = os.open(place, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def reach(self, spaces: spawn.Spaces) -> spawn.Spaces:
        """The same namespaces, with control groups that this process and its children can join."""
        confinement = spaces.confinement or {}
        groups = [self._path(path) for path in confinement.get("cgroups", ())]
        return spaces._replace(confinement={**confinement, "cgroups": groups}) if groups else spaces

    def _path(self, path: str) -> str:
        for place in sorted(self._points, key=len, reverse=True):
            if path.startswith(f"{place}/"):
                return f"/proc/self/fd/{self._points[place]}{path.removeprefix(place)}"
        return path


def set_anchor() -> tuple[int, int]:
    """Start the first process of the PID namespace of all nodes that are no containers, in which the caller's children
    are from now on: they end with it, and it with the caller. Returns its process id, and what it holds on to."""
    kernel.unshare(kernel.CLONE_NEWPID)
    here, rope = os.pipe2(os.O_CLOEXEC)
    anchor = os.fork()
    if anchor == 0:
        kernel.die_with_parent(signal.SIGKILL)
        kernel.set_process_name("wirelab-anchor")
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps orphans then
        os.dup2(here, 3)
        os.closerange(4, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        os.read(3, 1)  # ends when the caller does
        os._exit(0)
    os.close(here)
    return anchor, rope


def _own_file(home: str, node: str, file: str) -> None:
    """Let the node see its own file of /etc; what a link of the machine's /etc leads to in /run is made there."""
    source = os.path.join(home, file)
    if not os.path.exists(source):
        with open(source, "w", encoding="utf-8") as stream:
            stream.write(f"{node}\n" if file == "etc/hostname" else "")
    target = os.path.realpath(f"/{file}")
    if not os.path.exists(target) and target.startswith(tuple(f"/{place}/" for place in view.PRIVATE_PLACES)):
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with open(target, "x", encoding="utf-8"):
            pass
    if os.path.exists(target):
        kernel.mount(source, target, "", kernel.MS_BIND)


def _proc_of_nodes() -> None:
    """A /proc that shows the PID namespace of the nodes, in which only our children are, not we."""
    reading, writing = os.pipe2(os.O_CLOEXEC)
    child = os.fork()
    if child == 0:
        try:
            view.mount_proc("/proc")
        except OSError as error:
            os.write(writing, str(error.errno or errno.EIO).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as stream:
        trouble = stream.read()
    with contextlib.suppress(ChildProcessError):
        os.waitpid(child, 0)
    if trouble:
        raise OSError(int(trouble), f"/proc of the nodes: {os.strerror(int(trouble))}")
