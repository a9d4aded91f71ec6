"""The lab's first process. Run as a program, standard library only:

    python -I -S init.py RUN_DIRECTORY LAB LIFELINE_FD READY_FD [SHARED]

It becomes two processes. The *keeper* stays outside: it makes the run directory, and removes it when the lab has ended,
however it ended. The *init* is the first process of the lab's own user, network, mount, PID, UTS and IPC namespaces: it
holds the nodes' namespaces, starts services, reaps orphans and records how services ended. When it ends, the kernel
takes back everything. Until the builder says `commit`, both end as soon as the lifeline pipe closes.

Requests come over the socket RUN_DIRECTORY/ctl, one JSON object a message; file descriptors travel beside them.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import resource
import selectors
import shutil
import signal
import socket
import stat
import sys
import time
from collections.abc import Sequence
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from emulator.run import kernel, power, spawn, view
from emulator.run.service import Service

NAMESPACES = kernel.CLONE_NEWNS | kernel.CLONE_NEWNET | kernel.CLONE_NEWPID | kernel.CLONE_NEWUTS | kernel.CLONE_NEWIPC
OWN_FILES = ("etc/hosts", "etc/resolv.conf", "etc/hostname")


class StartError(Exception):
    """The lab's first process cannot start; `kind` tells the caller how to word it."""

    def __init__(self, kind: str, number: int, text: str) -> None:
        super().__init__(text)
        self.kind = kind
        self.number = number


def main(arguments: list[str]) -> int:
    """Make the run directory and the namespaces, then keep them. Returns the exit status of the keeper."""
    directory, lab, lifeline, ready = arguments[0], arguments[1], int(arguments[2]), int(arguments[3])
    os.set_inheritable(lifeline, False)
    os.set_inheritable(ready, False)
    with contextlib.suppress(OSError):
        os.setsid()
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    try:
        _make_directory(directory)
    except OSError as error:
        _tell(ready, {"error": "directory", "errno": error.errno, "text": str(error)})
        return 1
    try:
        return _keep(directory, lab, lifeline, ready)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        with contextlib.suppress(OSError):
            os.rmdir(os.path.dirname(directory))


def _make_directory(directory: str) -> None:
    """Make the run directory with its lock already held: it appears under its name only then, so that nobody takes it
    for one that was left behind. The lock lives as long as the keeper or the init."""
    base, name = os.path.split(directory)
    fresh = os.path.join(base, f".{name}.{os.getpid()}")
    for attempt in range(20):
        try:
            os.makedirs(base, 0o700, exist_ok=True)
            info = os.lstat(base)
            if not stat.S_ISDIR(info.st_mode) or info.st_uid != os.geteuid() or info.st_mode & 0o077:
                raise PermissionError(errno.EPERM, f"{base} is somebody else's")  # made since `runs.base` looked
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
        shutil.rmtree(fresh, ignore_errors=True)
        raise


def _tell(ready: int, message: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):
        os.write(ready, json.dumps(message).encode())


def _keep(directory: str, lab: str, lifeline: int, ready: int) -> int:
    as_root = os.geteuid() == 0
    kernel.adopt_orphans()
    mapped_read, mapped_write = os.pipe2(os.O_CLOEXEC)
    unshared_read, unshared_write = os.pipe2(os.O_CLOEXEC)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(mapped_write)
            kernel.unshare(kernel.CLONE_NEWUSER)
            os.write(unshared_write, b"1")
            if os.read(mapped_read, 1) == b"1":
                status = _enter(directory, lab, lifeline, ready, as_root=as_root)
        except OSError as error:
            _tell(ready, {"error": "namespaces", "errno": error.errno, "text": str(error)})
        finally:
            os._exit(status)
    os.close(unshared_write)
    os.close(mapped_read)
    try:
        if os.read(unshared_read, 1) == b"1":
            _map_ids(child)
            os.write(mapped_write, b"1")
    except OSError as error:
        _tell(ready, {"error": "namespaces", "errno": error.errno, "text": str(error)})
    os.close(mapped_write)
    os.close(ready)
    os.close(lifeline)
    kernel.set_process_name("wirelab-keeper")
    while True:
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return 0


def _map_ids(pid: int) -> None:
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


def _enter(directory: str, lab: str, lifeline: int, ready: int, *, as_root: bool) -> int:
    """In the new user namespace: make the others, and let a child be their first process."""
    if os.geteuid() != 0:
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
    kernel.unshare(NAMESPACES)
    if os.fork() == 0:
        status = 1
        try:
            Init(directory, lab, lifeline, ready, _shared(), as_root=as_root).run()
            status = 0
        except OSError as error:
            _tell(ready, {"error": "namespaces", "errno": error.errno, "text": str(error)})
        finally:
            os._exit(status)
    return 0


def _shared() -> list[view.Shared]:
    """What the user agreed to share, as the process that started this one says it."""
    return [view.Shared(*entry) for entry in json.loads(sys.argv[5])] if len(sys.argv) > 5 else []


class Init:
    """Process 1 of the lab."""

    def __init__(
        self,
        directory: str,
        lab: str,
        lifeline: int,
        ready: int,
        shared: Sequence[view.Shared] = (),
        *,
        as_root: bool = False,
    ) -> None:
        self.directory = directory
        self.lab = lab
        self.lifeline = lifeline
        self.ready = ready
        self.committed = False
        self.stopping = False
        self.nets: dict[str, int] = {}
        self.spaces: dict[str, spawn.Spaces] = {}
        self.services: dict[tuple[str, str], Service] = {}
        self.by_pid: dict[int, Service] = {}
        self.selector = selectors.DefaultSelector()
        self.private = view.LAB_PLACE
        self.run_directory = -1
        self.shared = shared
        self.as_root = as_root
        self.binds: dict[str, dict[str, tuple[int, bool]]] = {}
        self.own_fds: dict[str, int] = {}
        self.frozen: set[str] = set()
        self.epoch = 0

    def run(self) -> None:
        """Prepare the namespaces, say that we are ready, then serve until told to stop."""
        kernel.set_process_name("wirelab-init")
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        self._prepare()
        wake_read, wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, lambda *_: setattr(self, "stopping", True))
        listener = self._listen()
        self.selector.register(wake_read, selectors.EVENT_READ, "wake")
        self.selector.register(self.lifeline, selectors.EVENT_READ, "lifeline")
        self.selector.register(listener, selectors.EVENT_READ, listener)
        _tell(self.ready, {"ok": True})
        os.close(self.ready)
        while not self.stopping:
            for key, _ in self.selector.select(self._next_restart()):
                if key.data == "wake":
                    with contextlib.suppress(BlockingIOError):
                        os.read(wake_read, 4096)
                    self._reap()
                elif key.data == "lifeline":
                    if not self.committed:
                        return
                    self.selector.unregister(self.lifeline)
                    os.close(self.lifeline)
                elif key.data is listener:
                    with contextlib.suppress(OSError):
                        client, _address = listener.accept()
                        self.selector.register(client, selectors.EVENT_READ, "client")
                else:
                    self._serve(key.fileobj)  # type: ignore[arg-type]
            self._restart_failed()

    def _prepare(self) -> None:
        """Nothing that is mounted here is seen outside; the lab's files live in memory and end with it."""
        private = os.path.join(self.directory, "private")
        os.mkdir(private, 0o700)
        self.run_directory = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        view.close(private, self.shared, as_root=self.as_root)
        kernel.sethostname(self.lab[:63])
        for name in ("user", "mnt", "uts", "ipc", "net", "pid"):
            self.own_fds[name] = os.open(f"/proc/self/ns/{name}", os.O_RDONLY | os.O_CLOEXEC)
        self.own_fds["private"] = os.open(self.private, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def _listen(self) -> socket.socket:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        listener.bind(f"/proc/self/fd/{self.run_directory}/ctl")  # the path is short, and outside the lab's own root
        listener.listen(128)
        return listener

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            service = self.by_pid.pop(pid, None)
            if service is not None:
                service.end(os.waitstatus_to_exitcode(status))
                if service.due is not None:  # what is left of it would hold its port
                    with contextlib.suppress(OSError):
                        os.killpg(pid, signal.SIGKILL)

    def _waiting(self) -> list[Service]:
        return [service for service in self.services.values() if service.due and service.node not in self.frozen]

    def _next_restart(self) -> float | None:
        """Seconds until a service is to be started again; None when there is none."""
        due = [service.due for service in self._waiting() if service.due is not None]
        return max(0.0, min(due) - time.monotonic()) if due else None

    def _restart_failed(self) -> None:
        for service in self._waiting():
            if service.due is not None and service.due <= time.monotonic():
                service.due = None
                with contextlib.suppress(OSError):
                    service.begin(self._spawn(service.request))
                    service.restarts += 1
                    self.by_pid[service.pid] = service

    def _serve(self, client: socket.socket) -> None:
        fds: list[int] = []
        try:
            payload, fds = kernel.receive_message(client)
            if not payload:
                raise ConnectionResetError
            request = json.loads(payload)
            answer, beside = self._answer(request, fds)
        except (ConnectionError, BlockingIOError):
            self.selector.unregister(client)
            client.close()
            return
        except OSError as error:
            answer, beside = {"error": error.strerror or str(error), "errno": error.errno or errno.EIO}, ()
        except (ValueError, KeyError, TypeError) as error:
            answer, beside = {"error": f"a request that is not understood: {error}", "errno": errno.EINVAL}, ()
        finally:
            for descriptor in fds:
                if descriptor not in self.nets.values():
                    os.close(descriptor)
        with contextlib.suppress(OSError):
            kernel.send_message(client, json.dumps(answer).encode(), beside)

    def _answer(self, request: dict[str, Any], fds: list[int]) -> tuple[dict[str, Any], tuple[int, ...]]:
        what = request["do"]
        if what == "hello":
            names = list(self.own_fds)
            return {"ok": True, "spaces": names, "committed": self.committed}, tuple(self.own_fds.values())
        if what == "add-nodes":
            for name, descriptor in zip(request["nodes"], fds, strict=True):
                self.nets[name] = descriptor
            return {"ok": True}, ()
        if what == "remove-node":
            os.close(self.nets.pop(request["node"]))
            return {"ok": True}, ()
        if what == "enter":
            spaces = [self._node(name) for name in request["nodes"]]
            return {"ok": True}, tuple(fd for space in spaces for fd in (space.net, space.mnt, space.uts))
        if what == "nets":
            return {"ok": True, "nodes": request["nodes"]}, tuple(self.nets[name] for name in request["nodes"])
        if what == "start":
            return {"ok": True, "pid": self._start(request)}, ()
        if what == "signal":
            service = self.services[request["node"], request["service"]]
            if service.status is None:
                (os.killpg if request.get("group") else os.kill)(service.pid, int(request["signal"]))
            return {"ok": service.status is None, "service": service.as_json()}, ()
        if what == "end-service":
            service = self.services[request["node"], request["service"]]
            service.restart, service.due = False, None
            if service.status is None:
                os.killpg(service.pid, int(request["signal"]))
            return {"ok": True}, ()
        if what == "services":
            self._reap()
            return {"ok": True, "services": [service.as_json() for service in self.services.values()]}, ()
        if what == "epoch":
            return {"ok": True, "epoch": self.epoch}, ()
        if what == "freeze":
            self.frozen.add(request["node"])
            return {"ok": True, "processes": power.stop(self.nets[request["node"]])}, ()
        if what == "continue":
            power.go_on(self.nets[request["node"]])
            self.frozen.discard(request["node"])
            return {"ok": True}, ()
        if what == "power-off":
            self._power_off(request["node"], request["interfaces"])
            return {"ok": True}, ()
        if what == "bind":
            self._bind(request)
            return {"ok": True}, ()
        if what == "commit":
            self.committed = True
            return {"ok": True}, ()
        if what == "stop":
            self.stopping = True
            return {"ok": True}, ()
        raise ValueError(what)

    def _node(self, name: str) -> spawn.Spaces:
        """The namespaces of a node; its own mounts and host name are made when something first runs there."""
        if name not in self.spaces:
            self.spaces[name] = self._make_places(name)
        return self.spaces[name]

    def _make_places(self, name: str) -> spawn.Spaces:
        net = self.nets[name]
        home = os.path.join(self.private, name)
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
                self._own_file(name, file)
            for target, (number, writable) in self.binds.get(name, {}).items():
                view.bind(number, target, writable=writable)
            view.finish_node()
            flags = os.O_RDONLY | os.O_CLOEXEC
            return spawn.Spaces(net, os.open("/proc/self/ns/mnt", flags), os.open("/proc/self/ns/uts", flags))
        finally:
            kernel.setns(self.own_fds["mnt"], kernel.CLONE_NEWNS)
            kernel.setns(self.own_fds["uts"], kernel.CLONE_NEWUTS)
            kernel.setns(self.own_fds["net"], kernel.CLONE_NEWNET)

    def _bind(self, request: dict[str, Any]) -> None:
        """Let a node, in which nothing has run yet, see something that the user agreed to share."""
        numbers = [number for number, shared in enumerate(self.shared) if shared.source == request["source"]]
        if not numbers:
            raise OSError(errno.EPERM, "the user did not agree to share it")
        node, target = request["node"], request["target"]
        wanted = (numbers[0], request["writable"] is True)
        if self.binds.setdefault(node, {}).get(target) != wanted:
            if node in self.spaces:
                raise OSError(errno.EBUSY, "the node runs already")
            self.binds[node][target] = wanted

    def _own_file(self, node: str, file: str) -> None:
        """Let the node see its own file of /etc; what a link of the machine's /etc leads to in /run is made there."""
        source = os.path.join(self.private, node, file)
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

    def _power_off(self, node: str, interfaces: list[str]) -> None:
        """End everything in a node, and give it a new, empty network namespace: its cables are in it, without carrier.
        The interfaces go first, so that no connection that ends here says goodbye."""
        old, back = self.nets[node], self.own_fds["net"]
        power.switch_off(old, interfaces, back)
        for service in self.services.values():
            if service.node == node:
                service.restart, service.due = False, None
        power.end(old, self._reap)
        new = power.fresh_namespace(back)
        try:
            power.move(old, interfaces, new, back)
        except OSError:
            power.move(new, interfaces, old, back)
            os.close(new)
            raise
        self.nets[node] = new
        self.epoch += 1
        self.frozen.discard(node)
        spaces = self.spaces.pop(node, None)
        for descriptor in {old, *(spaces or ())}:
            os.close(descriptor)
        power.forget(os.path.join(self.private, node))

    def _start(self, request: dict[str, Any]) -> int:
        node, name = request["node"], request["service"]
        old = self.services.get((node, name))
        if old is not None and old.status is None:
            raise OSError(errno.EEXIST, f"{name} runs on {node} already")
        pid = self._spawn(request)
        service = Service(request, pid)
        self.services[node, name] = service
        self.by_pid[pid] = service
        return pid

    def _spawn(self, request: dict[str, Any]) -> int:
        node, name = request["node"], request["service"]
        spaces = self._node(node)
        with contextlib.suppress(FileExistsError):
            os.mkdir("log", 0o700, dir_fd=self.run_directory)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        log = os.open(f"log/{node}-{name}.log", flags, 0o600, dir_fd=self.run_directory)
        null = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        try:
            env = spawn.environment(node, request.get("env"))
            return spawn.start(spaces, request["argv"], env, stdin=null, stdout=log, stderr=log)
        finally:
            os.close(log)
            os.close(null)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
