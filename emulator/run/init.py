"""The lab's first process. Run as a program, standard library only:

    python -I -S init.py RUN_DIRECTORY LAB LIFELINE_FD READY_FD [ENGINE_SOCKET]

It becomes two processes. The *keeper* stays outside: it makes the run directory, and removes it when the lab has ended,
however it ended. The *init* is the first process of the lab's own user, network, mount, PID, UTS and IPC namespaces: it
holds the nodes' namespaces, starts services, reaps orphans and records how services ended. When it ends, the kernel
takes back everything. Until the builder says `commit`, both end as soon as the lifeline pipe closes.

A lab with containers (ENGINE_SOCKET is given) needs root and has no user namespace of its own, since the containers'
network namespaces belong to the machine's. Its init stays in the machine's PID namespace, which is above those of the
containers, so that it can start processes there; the processes of its other nodes have a PID namespace whose first
process, the *anchor*, ends with the init. When the init has ended, the keeper removes the lab's containers.

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
import signal
import socket
import sys
import time
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from emulator.run import kernel, spawn

NAMESPACES = kernel.CLONE_NEWNS | kernel.CLONE_NEWNET | kernel.CLONE_NEWPID | kernel.CLONE_NEWUTS | kernel.CLONE_NEWIPC
PRIVATE_PLACES = (
    "run",
    "tmp",
    "dev/shm",
    "var/tmp",
    "var/log",
    "var/lib/misc",
    "var/lib/dhcp",
    "var/lib/unbound",
    "var/lib/nsd",
)
"""Folders of which each node has its own, empty at first, in memory."""
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
    socket_path = arguments[4] if len(arguments) > 4 else ""
    os.set_inheritable(lifeline, False)
    os.set_inheritable(ready, False)
    with contextlib.suppress(OSError):
        os.setsid()
    os.chdir("/")
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    try:
        _make_directory(directory)
    except OSError as error:
        _tell(ready, {"error": "directory", "errno": error.errno, "text": str(error)})
        with contextlib.suppress(OSError):
            os.rmdir(os.path.dirname(directory))
        return 1
    try:
        if socket_path:
            return _keep_containers(directory, lab, lifeline, ready, socket_path)
        return _keep(directory, lab, lifeline, ready)
    except OSError as error:
        _tell(ready, {"error": "namespaces", "errno": error.errno, "text": str(error)})
        return 1
    finally:
        _remove_tree(directory)
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
        _remove_tree(fresh)
        raise


def _remove_tree(folder: str) -> None:
    """Remove `folder` and what is in it, as far as possible. (`shutil` would be half of what this process imports.)"""
    for parent, folders, files in os.walk(folder, topdown=False):
        for name in files:
            with contextlib.suppress(OSError):
                os.unlink(os.path.join(parent, name))
        for name in folders:
            with contextlib.suppress(OSError):
                path = os.path.join(parent, name)
                (os.unlink if os.path.islink(path) else os.rmdir)(path)
    with contextlib.suppress(OSError):
        os.rmdir(folder)


def _tell(ready: int, message: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):
        os.write(ready, json.dumps(message).encode())


def _keep(directory: str, lab: str, lifeline: int, ready: int) -> int:
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
                status = _enter(directory, lab, lifeline, ready)
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


def _keep_containers(directory: str, lab: str, lifeline: int, ready: int, socket_path: str) -> int:
    kernel.adopt_orphans()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            kernel.unshare(NAMESPACES & ~kernel.CLONE_NEWPID)
            init = Init(directory, lab, lifeline, ready, containers=True)
            init.run()
            status = 0 if init.committed else 1
        except OSError as error:
            _tell(ready, {"error": "namespaces", "errno": error.errno, "text": str(error)})
        finally:
            os._exit(status)
    os.close(ready)
    os.close(lifeline)
    kernel.set_process_name("wirelab-keeper")
    ended = status = -1
    while ended != child:
        ended, status = os.waitpid(-1, 0)
    if os.fork() == 0:  # a child, since a container ends only when we have reaped what Wirelab had started in it
        from emulator.run import engine  # here: other labs' first processes shall not wait for its imports

        with contextlib.suppress(OSError, ValueError):  # without the engine there is nobody to ask; `down` will say so
            engine.remove_all(socket_path, directory, calm_s=0.0 if status == 0 else 0.5)
        os._exit(0)
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


def _enter(directory: str, lab: str, lifeline: int, ready: int) -> int:
    """In the new user namespace: make the others, and let a child be their first process."""
    if os.geteuid() != 0:
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
    kernel.unshare(NAMESPACES)
    if os.fork() == 0:
        status = 1
        try:
            Init(directory, lab, lifeline, ready).run()
            status = 0
        except OSError as error:
            _tell(ready, {"error": "namespaces", "errno": error.errno, "text": str(error)})
        finally:
            os._exit(status)
    return 0


def _mount_proc() -> None:
    """A view of the PID namespace; where /proc is partly hidden (in a container) the old one stays."""
    with contextlib.suppress(OSError):
        kernel.mount("proc", "/proc", "proc", kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC)


class Service:
    """A daemon that this process started."""

    def __init__(self, node: str, name: str, pid: int) -> None:
        self.node = node
        self.name = name
        self.pid = pid
        self.started = time.time()
        self.status: int | None = None
        self.ended: float | None = None

    def as_json(self) -> dict[str, Any]:
        """What `ps` shows; `status` is negative when a signal ended it."""
        return {
            "node": self.node,
            "service": self.name,
            "pid": self.pid,
            "running": self.status is None,
            "status": self.status,
            "started": self.started,
            "ended": self.ended,
        }


class Init:
    """Process 1 of the lab."""

    def __init__(self, directory: str, lab: str, lifeline: int, ready: int, *, containers: bool = False) -> None:
        self.containers = containers
        self.anchor = self.rope = -1
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
        self.private = os.path.join(directory, "private")
        self.own_fds: dict[str, int] = {}
        self.kept: set[int] = set()
        self.confinement: dict[str, Any] | None = None
        self.view = -1

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
            for key, _ in self.selector.select():
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

    def _prepare(self) -> None:
        """Nothing that is mounted here is seen outside; the lab's files live in memory and end with it."""
        kernel.mount("", "/", "", kernel.MS_REC | kernel.MS_PRIVATE)
        if self.containers:
            self._set_anchor()
        else:
            _mount_proc()
        os.mkdir(self.private, 0o700)
        kernel.mount("wirelab", self.private, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "mode=0755")
        kernel.sethostname(self.lab[:63])
        for name in (*(() if self.containers else ("user",)), "mnt", "uts", "ipc", "net", "pid"):
            kind = "pid_for_children" if name == "pid" else name
            self.own_fds[name] = os.open(f"/proc/self/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC)
        self.own_fds["private"] = os.open(self.private, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def _set_anchor(self) -> None:
        """The first process of the PID namespace of all nodes that are no containers: they end with it, it with us."""
        kernel.unshare(kernel.CLONE_NEWPID)
        here, self.rope = os.pipe2(os.O_CLOEXEC)
        self.anchor = os.fork()
        if self.anchor == 0:
            kernel.die_with_parent(signal.SIGKILL)
            kernel.set_process_name("wirelab-anchor")
            signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps orphans then
            os.dup2(here, 3)
            os.closerange(4, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
            os.read(3, 1)  # ends when the init does
            os._exit(0)
        os.close(here)

    def _listen(self) -> socket.socket:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        folder = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        listener.bind(
            f"/proc/self/fd/{folder}/ctl"
        )  # a socket's path has at most 107 octets, the directory's may be long
        os.close(folder)
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
            if pid == self.anchor:
                self.stopping = True
            service = self.by_pid.pop(pid, None)
            if service is not None:
                service.status = os.waitstatus_to_exitcode(status)
                service.ended = time.time()

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
            kept = set(self.nets.values()) if fds else ()
            for descriptor in fds:
                if descriptor not in kept and descriptor not in self.kept:
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
            self.confinement = request.get("confinement")
            return {"ok": True}, ()
        if what == "add-containers":
            return self._add_containers(request["nodes"], fds)
        if what == "remove-node":
            os.close(self.nets.pop(request["node"]))
            self.spaces.pop(request["node"], None)
            return {"ok": True}, ()
        if what == "proc":
            self._drop_view()
            self.view = kernel.new_proc()
            return {"ok": True}, (self.view,)
        if what == "enter":
            look = self._tools if request.get("tools") else self._for_commands
            spaces = [look(name) for name in request["nodes"]]
            nodes = [(list(space.descriptors), space.confinement) for space in spaces]
            return {"ok": True, "nodes": nodes}, tuple(fd for space in spaces for fd in space.descriptors.values())
        if what == "nets":
            return {"ok": True, "nodes": request["nodes"]}, tuple(self.nets[name] for name in request["nodes"])
        if what == "start":
            return {"ok": True, "pid": self._start(request)}, ()
        if what == "signal":
            service = self.services[request["node"], request["service"]]
            if service.status is None:
                os.kill(service.pid, int(request["signal"]))
            return {"ok": service.status is None, "service": service.as_json()}, ()
        if what == "services":
            self._reap()
            return {"ok": True, "services": [service.as_json() for service in self.services.values()]}, ()
        if what == "commit":
            self.committed = True
            self._drop_view()
            return {"ok": True}, ()
        if what == "stop":
            self.stopping = True
            return {"ok": True}, ()
        raise ValueError(what)

    def _add_containers(self, nodes: list[dict[str, Any]], fds: list[int]) -> tuple[dict[str, Any], tuple[int, ...]]:
        each = len(spawn.Spaces._fields) - 1
        for index, node in enumerate(nodes):
            spaces = spawn.Spaces._make([*fds[each * index : each * (index + 1)], node["confinement"]])
            self.spaces[node["name"]] = spaces
            self.nets[node["name"]] = spaces.net
            self.kept |= set(spaces.descriptors.values())
        return {"ok": True}, ()

    def _tools(self, name: str) -> spawn.Spaces:
        """A node's network beside this machine's own files."""
        spaces = self._node(name)
        if spaces.ipc < 0:
            return spaces
        return spawn.Spaces(spaces.net, self.own_fds["mnt"], self.own_fds["uts"])

    def _for_commands(self, name: str) -> spawn.Spaces:
        """A node as commands find it: as root, also where an image's user keeps its daemon from that, unless the lab
        file names the user."""
        spaces = self._node(name)
        if not (spaces.confinement or {}).get("as_root"):
            return spaces
        return spaces._replace(confinement={**(spaces.confinement or {}), "uid": 0, "gid": 0, "groups": [0]})

    def _drop_view(self) -> None:
        if self.view >= 0:
            os.close(self.view)
        self.view = -1

    def _node(self, name: str) -> spawn.Spaces:
        """The namespaces of a node; its own mounts and host name are made when something first runs there."""
        if name not in self.spaces:
            self.spaces[name] = self._make_places(name)
        return self.spaces[name]

    def _make_places(self, name: str) -> spawn.Spaces:
        net = self.nets[name]
        home = os.path.join(self.private, name)
        resolv_conf = os.path.realpath("/etc/resolv.conf")
        try:
            kernel.unshare(kernel.CLONE_NEWNS | kernel.CLONE_NEWUTS)
            kernel.sethostname(name)
            kernel.setns(net, kernel.CLONE_NEWNET)
            with contextlib.suppress(OSError):  # without its own /sys a node sees the lab's; nothing of ours reads it
                kernel.mount("sysfs", "/sys", "sysfs", kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC)
            os.makedirs(os.path.join(home, "etc"), exist_ok=True)
            for file in OWN_FILES:
                path = os.path.join(home, file)
                if not os.path.exists(path):
                    with open(path, "w", encoding="utf-8") as stream:
                        stream.write(f"{name}\n" if file == "etc/hostname" else "")
            sources = {file: os.open(os.path.join(home, file), os.O_PATH | os.O_CLOEXEC) for file in OWN_FILES}
            for place in PRIVATE_PLACES:
                if os.path.isdir(f"/{place}"):
                    own = os.path.join(home, place)
                    os.makedirs(own, exist_ok=True)
                    if place in ("tmp", "dev/shm", "var/tmp"):
                        os.chmod(own, 0o1777)  # noqa: S103 - the usual mode of /tmp
            binds = [
                (os.open(os.path.join(home, place), os.O_PATH | os.O_CLOEXEC), f"/{place}")
                for place in PRIVATE_PLACES
                if os.path.isdir(f"/{place}")
            ]
            for source, target in binds:
                kernel.mount(f"/proc/self/fd/{source}", target, "", kernel.MS_BIND)
            for file, source in sources.items():
                target = resolv_conf if file == "etc/resolv.conf" else f"/{file}"
                if not os.path.exists(target) and target.startswith(tuple(f"/{place}/" for place in PRIVATE_PLACES)):
                    os.makedirs(os.path.dirname(target), exist_ok=True)
                    with open(target, "x", encoding="utf-8"):
                        pass
                if os.path.exists(target):
                    kernel.mount(f"/proc/self/fd/{source}", target, "", kernel.MS_BIND)
                os.close(source)
            for source, _ in binds:
                os.close(source)
            flags = os.O_RDONLY | os.O_CLOEXEC
            mnt, uts = os.open("/proc/self/ns/mnt", flags), os.open("/proc/self/ns/uts", flags)
            if not self.containers:
                return spawn.Spaces(net, mnt, uts)
            self._mount_proc_of_nodes()
            return spawn.Spaces(net, mnt, uts, pid=self.own_fds["pid"], confinement=self.confinement)
        finally:
            kernel.setns(self.own_fds["mnt"], kernel.CLONE_NEWNS)
            kernel.setns(self.own_fds["uts"], kernel.CLONE_NEWUTS)
            kernel.setns(self.own_fds["net"], kernel.CLONE_NEWNET)

    def _mount_proc_of_nodes(self) -> None:
        """A /proc that shows the PID namespace of the nodes, in which only our children are, not we."""
        child = os.fork()
        if child == 0:
            _mount_proc()
            os._exit(0)
        os.waitpid(child, 0)

    def _start(self, request: dict[str, Any]) -> int:
        node, name = request["node"], request["service"]
        old = self.services.get((node, name))
        if old is not None and old.status is None:
            raise OSError(errno.EEXIST, f"{name} runs on {node} already")
        spaces = self._node(node) if request.get("rootless") else self._for_commands(node)
        log_path = os.path.join(self.directory, "log", f"{node}-{name}.log")
        os.makedirs(os.path.dirname(log_path), mode=0o700, exist_ok=True)
        log = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        null = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        try:
            env = spawn.environment(node, request.get("env"))
            pid = spawn.start(spaces, request["argv"], env, stdin=null, stdout=log, stderr=log)
        finally:
            os.close(log)
            os.close(null)
        service = Service(node, name, pid)
        self.services[node, name] = service
        self.by_pid[pid] = service
        return pid


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
