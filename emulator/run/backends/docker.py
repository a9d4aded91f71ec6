"""Nodes as containers of the Docker Engine. All but their making and their files is done as for namespaces.

A container has an empty network namespace (`--network none`) and no right that its node does not need. What makes it
part of the lab comes from outside: its interfaces, addresses, routes and rules, by netlink and by this machine's own
programs, so an image needs no tools for it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import select
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emulator.errors import CommandFailed, MachineError, printable
from emulator.plan import ops
from emulator.plan.containers import CAPABILITIES, NETWORK_CAPABILITIES, CreateContainer
from emulator.run import engine, kernel
from emulator.run.backends.docker_files import Action, identity, in_files, prepare, write_files
from emulator.run.backends.netns import NetnsHands, initial_settings
from emulator.run.control import Control, LabGone
from emulator.run.view import Shared, is_same

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.types import Mount

_AT_ONCE = 8
_ENGINE_KNOWS_S = 5.0
_SPACES = ("net", "mnt", "uts", "ipc", "pid", "cgroup")
_OURS = "wirelab/"


@dataclass(frozen=True)
class Made:
    """A container that runs: what the engine says of it."""

    operation: CreateContainer
    id: str
    pid: int
    env: Sequence[str]
    cwd: str
    user: str
    profile: str


class DockerHands(NetnsHands):
    """Builds a lab of which some nodes are containers. The calling process has the capabilities for it outside all user
    namespaces: it is root, or a deputy's (`emulator.run.deputy`)."""

    def __init__(self, control: Control, directory: Path, private: Path, socket_path: str, owner: int) -> None:
        super().__init__(control, directory, private)
        self._socket_path = socket_path
        self._owner = owner
        self._wanted: list[CreateContainer] = []
        self._fetching = threading.Lock()
        self._lacking: dict[str, MachineError] = {}
        self._made: dict[str, Made] = {}
        self._owners: dict[str, tuple[int, int]] = {}
        self._files: dict[str, list[tuple[str, bytes, int]]] = {}
        if os.geteuid() == 0:
            self.confinement = {"capabilities": kernel.capability_set(CAPABILITIES)}
        else:  # done by a deputy: what is no container sees the user's files, and has no right to any other
            self.confinement = {"capabilities": kernel.capability_set(NETWORK_CAPABILITIES), "ambient": True}

    def _execute(self, operation: ops.Operation) -> None:
        if isinstance(operation, CreateContainer):
            self._wanted.append(operation)
            return
        self._create_wanted()
        super()._execute(operation)

    def flush(self) -> None:
        """See `NetnsHands.flush`; containers are made side by side, and files written a node at a time."""
        self._create_wanted()
        files, self._files = self._files, {}
        if files:
            self._write(files)
        super().flush()

    def _create_wanted(self) -> None:
        wanted, self._wanted = self._wanted, []
        if not wanted:
            return
        import docker

        shared = self._shared() if any(operation.mounts for operation in wanted) else {}
        client = docker.DockerClient(base_url=f"unix://{self._socket_path}", timeout=120, max_pool_size=_AT_ONCE)
        try:
            with ThreadPoolExecutor(_AT_ONCE) as pool:
                futures = [(operation, pool.submit(self._create, client, operation, shared)) for operation in wanted]
                try:
                    made = [future.result() for _, future in futures]
                except BaseException:
                    pool.shutdown(cancel_futures=True)
                    raise
            self._made.update({one.operation.node: one for one in made})
            try:
                self._enter(made)
            except (CommandFailed, OSError):
                for one in made:
                    _check_lives(client, one)
                raise
        finally:
            client.close()

    def _shared(self) -> dict[str, Shared]:
        """What the user agreed to share, by how the lab file names it."""
        answer, _ = self._control.ask("shared")
        return {one.source: one for one in (Shared(*entry) for entry in answer["shared"])}

    def _create(self, client: DockerClient, operation: CreateContainer, shared: Mapping[str, Shared]) -> Made:
        from docker.errors import APIError, ImageNotFound

        api = client.api
        mounts = agreed_mounts(operation, shared)
        lab = self._directory.name
        try:
            config = api.create_host_config(
                network_mode="none",
                init=True,
                cap_drop=["ALL"],
                cap_add=list(operation.capabilities),
                tmpfs=dict(folder.split(":", 1) for folder in operation.in_memory),
                mounts=mounts,
                nano_cpus=int(operation.cpus * 1e9) if operation.cpus else None,
                mem_limit=operation.memory_bytes,
                memswap_limit=operation.memory_bytes,  # of memory and swap together: no swap beside it
            )
            create = partial(
                api.create_container,
                operation.image,
                command=list(operation.cmd) if operation.cmd is not None else None,
                name=container_name(self._owner, self._directory, operation.node),
                hostname=operation.node[:63],
                user=operation.user or None,
                environment=dict(operation.env),
                labels={
                    engine.LAB: lab,
                    engine.NODE: operation.node,
                    engine.RUN: str(self._directory),
                    engine.OWNER: str(self._owner),
                },
                host_config=config,
            )
            try:
                created = create()
            except ImageNotFound:
                self._fetch(client, operation.image)
                created = create()
        except (APIError, OSError) as error:
            raise CommandFailed(f"cannot {operation.describe()}: {_reason(error)}") from None
        return self._start_container(client, operation, created["Id"])

    def _fetch(self, client: DockerClient, image: str) -> None:
        """Make sure that the engine has `image`; it is tried once, whoever else wants it.

        Raises:
            MachineError: it is not there and cannot be had.
        """
        with self._fetching:
            if image in self._lacking:
                raise self._lacking[image]
            try:
                _require_image(client, image)
            except MachineError as error:
                self._lacking[image] = error
                raise

    def _start_container(self, client: DockerClient, operation: CreateContainer, container: str) -> Made:
        from docker.errors import APIError

        try:
            client.api.start(container)
            about = client.api.inspect_container(container)
        except (APIError, OSError) as error:
            raise CommandFailed(f"cannot {operation.describe()}: {_reason(error)}") from None
        state = about["State"]
        if not state["Running"] or not state["Pid"]:
            raise _ended(client, operation, container, state["ExitCode"])
        settings = about["Config"]
        return Made(
            operation,
            container,
            state["Pid"],
            settings.get("Env") or (),
            settings.get("WorkingDir") or "/",
            settings.get("User") or "",
            about.get("AppArmorProfile") or "",
        )

    def _enter(self, made: Sequence[Made]) -> None:
        """Take hold of the containers' namespaces, and give them to the lab's first process."""
        own = _cgroups("self")
        points = _cgroup_mounts(Path("/proc/self/mountinfo").read_text(encoding="utf-8"))
        entries: list[dict[str, Any]] = []
        descriptors: list[int] = []
        works: list[tuple[str, int, Action]] = []
        for one in made:
            spaces = namespaces(one)
            descriptors += spaces
            kernel.setns(spaces[0], kernel.CLONE_NEWNET)
            self._settings.in_new_namespace()
            for key, value in (*_IPV6_ON, *sorted(initial_settings(one.operation))):
                if one.operation.ipv6 or (key, value) not in _IPV6_ON:
                    self._settings.write(key, value)
            self._add_node(one.operation, os.dup(spaces[0]))
            works.append((one.operation.node, spaces[1], prepare))
        part = kernel.FDS_A_MESSAGE // len(_SPACES)
        try:
            for one, (passwd, group) in zip(made, in_files(works), strict=True):
                confinement = self._confine(one, identity(one.user, passwd, group), own, points)
                self._owners[one.operation.node] = confinement["uid"], confinement["gid"]
                entries.append({"name": one.operation.node, "confinement": confinement})
            for start in range(0, len(entries), part):
                fds = tuple(descriptors[start * len(_SPACES) : (start + part) * len(_SPACES)])
                self._control.ask("add-containers", fds, nodes=entries[start : start + part])
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    def _confine(
        self, one: Made, user: tuple[int, int, list[int]], own: Mapping[str, str], points: Mapping[str, str]
    ) -> dict[str, Any]:
        uid, gid, groups = user
        joined = {kind: path for kind, path in _cgroups(str(one.pid)).items() if own.get(kind) != path}
        return {
            "capabilities": kernel.capability_set(one.operation.capabilities),
            "cgroups": [f"{points[kind]}{path}/cgroup.procs" for kind, path in joined.items() if kind in points],
            "profile": one.profile if one.profile != "unconfined" else "",
            "as_root": not one.operation.user,
            "uid": uid,
            "gid": gid,
            "groups": groups,
            "env": dict(entry.split("=", 1) for entry in one.env if "=" in entry),
            "cwd": one.cwd,
        }

    def _remove_node(self, name: str) -> None:
        made = self._made.pop(name, None)
        super()._remove_node(name)
        if made is not None:
            with contextlib.suppress(LabGone):
                engine.remove(self._socket_path, [made.id])

    def _write_file(self, operation: ops.WriteFile) -> None:
        if operation.node not in self._made:
            super()._write_file(operation)
            return
        octets = operation.content.encode()
        self._files.setdefault(operation.node, []).append((operation.path, octets, operation.mode))

    def _put_file(self, operation: ops.PutFile) -> None:
        if operation.node not in self._made:
            super()._put_file(operation)
            return
        octets = (self._private / ops.WORKSHOP / operation.source).read_bytes()
        self._files.setdefault(operation.node, []).append((operation.path, octets, operation.mode))

    def _write(self, files: Mapping[str, Sequence[tuple[str, bytes, int]]]) -> None:
        spaces = self._control.node_spaces(list(files))
        try:
            in_files(
                [
                    (node, spaces[node].mnt, partial(write_files, entries, *self._owners[node]))
                    for node, entries in files.items()
                ]
            )
        finally:
            for node in files:
                spaces[node].close()

    def _root_of(self, node: str) -> Path:
        if node not in self._made:
            return super()._root_of(node)
        return Path(f"/proc/{self._made[node].pid}/root")


_IPV6_ON = tuple((f"net.ipv6.conf.{scope}.disable_ipv6", "0") for scope in ("all", "default", "lo"))
"""An engine may have switched it off."""


def container_name(owner: int, directory: Path, node: str) -> str:
    """What the engine shall call the container of a node: for people the lab's and the node's name, and what no other
    lab in another run directory, or with its names divided in another way, has."""
    mark = hashlib.sha256(f"{directory}\0{node}".encode()).hexdigest()[:8]
    return f"wirelab-{owner}-{directory.name}-{node}-{mark}"


def namespaces(one: Made) -> list[int]:
    """Descriptors of a container's namespaces, in the order of `_SPACES`; close them.

    An engine in a virtual machine, or behind a socket that leads elsewhere, tells numbers of processes of another
    machine. Here they are strangers', so it is asked whether the process is in a control group of the container.

    Raises:
        MachineError: it is not.
        CommandFailed: the container has ended.
    """
    text = f"cannot enter the container of {one.operation.node}"
    opened: list[int] = []
    try:
        process = os.pidfd_open(one.pid)
        try:
            opened += [os.open(f"/proc/{one.pid}/ns/{name}", os.O_RDONLY | os.O_CLOEXEC) for name in _SPACES]
            groups = _cgroups(str(one.pid))
            ended = bool(select.select([process], [], [], 0)[0])  # its number may have another process by now
        finally:
            os.close(process)
        if ended:
            raise ProcessLookupError
        if not any(one.id in path for path in groups.values()):
            raise MachineError(f"{text}: process {one.pid} of this machine is not in it", hint=_HERE)
    except BaseException as error:
        for descriptor in opened:
            os.close(descriptor)
        if isinstance(error, OSError):
            raise CommandFailed(f"{text}: it has ended, or runs on another machine", hint=_HERE) from None
        raise
    return opened


_HERE = "the engine must be on this machine, not in a virtual one or behind a socket that leads elsewhere"


def agreed_mounts(operation: CreateContainer, shared: Mapping[str, Shared]) -> list[Mount]:
    """What a container sees of this machine, as the engine takes it.

    Raises:
        CommandFailed: it is not what the user agreed to.
    """
    return [_mount(operation, text, shared) for text in operation.mounts]


def _mount(operation: CreateContainer, text: str, shared: Mapping[str, Shared]) -> Mount:
    from docker.types import Mount

    source, target, mode = text.rsplit(":", 2)
    agreed = shared.get(source)
    if agreed is None or not is_same(agreed):
        why = "the user did not agree to share it" if agreed is None else "it is no longer what you agreed to share"
        raise CommandFailed(f"cannot {operation.describe()}: {source}: {why}")
    return Mount(target, agreed.path, type="bind", read_only=mode == "ro")


def _require_image(client: DockerClient, image: str) -> None:
    """Make sure that the engine has `image`; one that is not ours is pulled, as `docker run` does.

    Raises:
        MachineError: it is not there and cannot be had.
    """
    from docker.errors import APIError, DockerException, ImageNotFound

    try:
        client.images.get(image)
        return
    except ImageNotFound:
        if image.startswith(_OURS):
            raise MachineError(f"the engine has no image {image}", hint="make images") from None
    try:
        said = client.api.pull(image, stream=True, decode=True)  # `images.pull` leaves errors in it unread
        trouble = next((line["error"] for line in said if "error" in line), "")
    except APIError as error:
        trouble = _reason(error)
    except (DockerException, OSError) as error:
        raise MachineError(f"the engine does not answer: {_reason(error)}") from None
    if trouble:
        text = f"the engine has no image {image}, and cannot get it: {printable(str(trouble)).strip()}"
        raise MachineError(text, hint=f"docker pull {image}") from None


def _ended(client: DockerClient, operation: CreateContainer, container: str, status: int) -> CommandFailed:
    said = client.api.logs(container, tail=8).decode(errors="replace").strip()
    text = f"cannot {operation.describe()}: it ended at once with status {status}"
    return CommandFailed(text, hint=printable(f"it said: {said}") if said else "give a `cmd` that goes on")


def _check_lives(client: DockerClient, one: Made) -> None:
    """Raise CommandFailed with a container's last words, if it has ended since it was started."""
    deadline = time.monotonic() + _ENGINE_KNOWS_S
    while not os.path.exists(f"/proc/{one.pid}/ns/net"):  # gone with the process's end, before it is reaped
        state = client.api.inspect_container(one.id)["State"]
        if not state["Running"]:
            raise _ended(client, one.operation, one.id, state["ExitCode"])
        if time.monotonic() > deadline:
            return
        time.sleep(0.02)


def _reason(error: Exception) -> str:
    return printable(str(getattr(error, "explanation", None) or error))


def _cgroups(process: str) -> dict[str, str]:
    """Kind of hierarchy (controllers of version 1, nothing for version 2) → the group of a process (cgroups(7))."""
    rows = (line.split(":", 2) for line in Path(f"/proc/{process}/cgroup").read_text(encoding="utf-8").splitlines())
    return {kind: path.rstrip("/") for _, kind, path in rows}


def _cgroup_mounts(mountinfo: str) -> dict[str, str]:
    """Kind of hierarchy → where it is mounted (proc_pid_mountinfo(5))."""
    points: dict[str, str] = {}
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = (*after.split(" "), "", "")[:3]
        place = re.sub(r"\\(\d{3})", lambda match: chr(int(match[1], 8)), before.split(" ")[4])
        if kind == "cgroup2":
            points.setdefault("", place)
        elif kind == "cgroup":
            words = options.split(",")
            for name in words:
                points.setdefault(name, place)
            points.setdefault(",".join(word for word in words if word not in ("rw", "ro")), place)
    return points
