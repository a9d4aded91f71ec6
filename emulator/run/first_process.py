"""What the lab's first process does once it has its namespaces (see `emulator.run.keeper`). Standard library only.

Requests come over the socket RUN_DIRECTORY/ctl, one JSON object a message; file descriptors travel beside them.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import json
import os
import resource
import selectors
import signal
import socket
import time
from collections.abc import Sequence
from typing import Any

from emulator.run import kernel, places, power, spawn, view
from emulator.run.service import Service


def tell(ready: int, message: dict[str, Any]) -> None:
    """Say to who started the lab how it went, over the pipe `ready`."""
    with contextlib.suppress(OSError):
        os.write(ready, json.dumps(message).encode())


class Init:
    """Process 1 of the lab."""

    def __init__(
        self,
        directory: str,
        lab: str,
        lifeline: int,
        ready: int,
        shared: Sequence[view.Shared],
        *,
        containers: bool = False,
        as_root: bool = False,
    ) -> None:
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
        self.run_directory = -1
        self.shared = shared
        self.as_root = as_root
        self.own_fds: dict[str, int] = {}
        self.places = places.Places(self.own_fds, shared, containers=containers)
        self.copying: view.Copying | None = None
        self.frozen: set[str] = set()
        self.epoch = 0
        self.control_groups: places.ControlGroups | None = None
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
        tell(self.ready, {"ok": True})
        os.close(self.ready)
        gc.enable()
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
        if self.containers:
            self.control_groups = places.ControlGroups()
        self.copying = view.close(private, self.shared, as_root=self.as_root)
        if self.containers:
            self.anchor, self.rope = places.set_anchor()
        kernel.sethostname(self.lab[:63])
        for name in (*(() if self.containers else ("user",)), "mnt", "uts", "ipc", "net", "pid"):
            kind = "pid_for_children" if name == "pid" else name
            self.own_fds[name] = os.open(f"/proc/self/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC)
        self.own_fds["private"] = os.open(view.LAB_PLACE, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

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
            if pid == self.anchor:
                self.stopping = True
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
                try:
                    service.begin(self._spawn(service.request))
                except OSError:  # no memory, no room for the log: that may pass
                    service.put_off()
                    continue
                service.restarts += 1
                self.by_pid[service.pid] = service

    def _serve(self, client: socket.socket) -> None:
        fds: list[int] = []
        try:
            payload, fds = kernel.receive_message(client, long=True)
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
        try:
            kernel.send_message(client, json.dumps(answer).encode(), beside)
        except OSError:  # it would wait for ever
            self.selector.unregister(client)
            client.close()

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
        if what == "settle":
            return {"ok": self._is_settled()}, ()
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
                (os.killpg if request.get("group") else os.kill)(service.pid, int(request["signal"]))
            return {"ok": service.status is None, "service": service.as_json()}, ()
        if what == "end-service":
            return self._end_service(request)
        if what == "services":
            return {"ok": True, "services": self._services(request.get("node"), request.get("service"))}, ()
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
            if not self.places.is_bound(request):
                if request["node"] in self.spaces:
                    raise OSError(errno.EBUSY, "the node runs already")
                self.places.bind(request)
            return {"ok": True}, ()
        if what == "shared":
            return {"ok": True, "shared": self.shared}, ()
        if what == "commit":
            self.committed = self._is_settled()
            self._drop_view()
            return {"ok": True}, ()
        if what == "stop":
            self.stopping = True
            return {"ok": True}, ()
        raise ValueError(what)

    def _end_service(self, request: dict[str, Any]) -> tuple[dict[str, Any], tuple[int, ...]]:
        service = self.services[request["node"], request["service"]]
        service.restart, service.due = False, None
        if service.status is None:
            os.killpg(service.pid, int(request["signal"]))
        return {"ok": True}, ()

    def _services(self, node: str | None, name: str | None) -> list[dict[str, Any]]:
        """The services, or the one that is asked for, if it was ever started."""
        self._reap()
        if node is None or name is None:
            return [service.as_json() for service in self.services.values()]
        service = self.services.get((node, name))
        return [service.as_json()] if service else []

    def _add_containers(self, nodes: list[dict[str, Any]], fds: list[int]) -> tuple[dict[str, Any], tuple[int, ...]]:
        each = len(spawn.Spaces._fields) - 1
        for index, node in enumerate(nodes):
            spaces = spawn.Spaces._make([*fds[each * index : each * (index + 1)], node["confinement"]])
            if (held := self.nets.get(node["name"])) is not None:  # it was switched off, and its cables were kept
                back = self.own_fds["net"]
                power.move(held, power.interfaces(held, back), spaces.net, back)
                self._replace_network(node["name"], spaces.net)
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

    def _is_settled(self) -> bool:
        """Wait until all that the lab's processes see of the machine is there: before it none is started. Raises
        OSError when it cannot be."""
        if self.copying is not None:
            self.copying.wait()
            self.copying = None
        return True

    def _node(self, name: str) -> spawn.Spaces:
        """The namespaces of a node; its own mounts and host name are made when something first runs there."""
        self._is_settled()
        if name not in self.spaces:
            self.spaces[name] = self.places.make(name, self.nets[name], self.confinement)
        return self.spaces[name]

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
        self._replace_network(node, new)
        power.forget(os.path.join(view.LAB_PLACE, node))

    def _replace_network(self, node: str, new: int) -> None:
        """From now on the node's network namespace is `new`; what was known of the node before is forgotten."""
        spaces = self.spaces.pop(node, None)
        known = spaces.descriptors if spaces else {}
        if spaces and spaces.ipc < 0:
            known.pop("pid", None)  # that of all nodes which are no containers
        for descriptor in {self.nets[node], *known.values()}:
            self.kept.discard(descriptor)
            os.close(descriptor)
        self.nets[node] = new
        self.epoch += 1
        self.frozen.discard(node)

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
        spaces = self._node(node) if request.get("rootless") else self._for_commands(node)
        with contextlib.suppress(FileExistsError):
            os.mkdir("log", 0o700, dir_fd=self.run_directory)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        log = os.open(f"log/{node}-{name}.log", flags, 0o600, dir_fd=self.run_directory)
        null = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        try:
            env = spawn.environment(node, request.get("env"))
            if self.control_groups:
                spaces = self.control_groups.reach(spaces)
            return spawn.start(spaces, request["argv"], env, stdin=null, stdout=log, stderr=log)
        finally:
            os.close(log)
            os.close(null)
