"""Nodes that are containers: which image, which rights, and the operation that makes one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from emulator.frozen import dataclass, field
from emulator.plan.ops import CreateNode, Operation, RemoveNode, quote
from emulator.version import VERSION

if TYPE_CHECKING:  # the builder, which only wants the operation, shall not wait for the lab file's model
    from emulator.lab.resolved import Container, Node

CAPABILITIES = (
    "CHOWN",
    "DAC_OVERRIDE",
    "KILL",
    "NET_ADMIN",
    "NET_BIND_SERVICE",
    "NET_RAW",
    "SETGID",
    "SETUID",
)
"""What a node's processes may do (capabilities(7)), and no more: NET_ADMIN for its own addresses, routes and packet
filter, NET_RAW for ping and captures, NET_BIND_SERVICE for ports below 1,024, the others for daemons that keep files of
a user of their own and stop their children. All of it inside the container's own namespaces."""

HARMLESS_CAPABILITIES = (*CAPABILITIES, "FOWNER", "FSETID", "SETFCAP", "SETPCAP", "SYS_CHROOT")
"""What a lab file may ask for (`cap-add`) without the user's agreement: power over the container's own files and
processes, which Docker gives to every container."""

NETWORK_CAPABILITIES = tuple(name for name in CAPABILITIES if name.startswith("NET_"))
"""Those that are about the network alone."""

OWN_IMAGES: Mapping[str, frozenset[str]] = {
    "host": frozenset(),
    "web": frozenset({"http"}),
    "router": frozenset({"router", "dnsmasq"}),
    "resolver": frozenset({"unbound"}),
    "nameserver": frozenset({"nsd"}),
    "full": frozenset({"http", "router", "dnsmasq", "unbound", "nsd"}),
}
"""Wirelab's images, the smallest first, and what each is for beside the tools of a client."""


def own_image(name: str) -> str:
    """The full name of one of Wirelab's images, with the version that belongs to this code."""
    return f"wirelab/{name}:{VERSION}"


def image_for(node: Node) -> str:
    """The image of a node for which the file names none: the smallest that has what its services need."""
    needs = {name for name in ("dnsmasq", "unbound", "nsd", "http") if getattr(node.services, name) is not None}
    if node.kind == "router" or node.nat or node.firewall:
        needs.add("router")
    return own_image(next(name for name, provides in OWN_IMAGES.items() if needs <= provides))


@dataclass(frozen=True)
class CreateContainer(CreateNode):
    """A container of the Docker Engine with an empty network namespace (`--network none`); its loopback is up.

    `mounts` are `source:target:ro` or `:rw`, sources as the lab file has them; the user has to agree to them.
    `in_memory` are its own folders in memory, with how they are mounted.
    """

    image: str = ""
    cmd: tuple[str, ...] | None = None
    user: str = ""
    cpus: float | None = None
    memory_bytes: int | None = None
    capabilities: tuple[str, ...] = CAPABILITIES
    mounts: tuple[str, ...] = ()
    in_memory: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)

    def describe(self) -> str:
        return f"create the node {self.node}, a container of {self.image}"

    def shell(self) -> str:
        words = ["--hostname", self.node, "--cap-drop", "ALL"]
        for name in self.capabilities:
            words += ["--cap-add", name]
        for folder in self.in_memory:
            words += ["--tmpfs", folder]
        for key, value in self.env.items():
            words += ["--env", f"{key}={value}"]
        words += ["--user", self.user] if self.user else []
        words += ["--cpus", f"{self.cpus:g}"] if self.cpus else []
        words += ["--memory", str(self.memory_bytes)] if self.memory_bytes else []
        volumes = "".join(
            f' --volume "$(realpath {quote([source])})":{quote([rest])}' for source, rest in self._volumes()
        )
        create = f"make_container {quote([self.node, *words])}{volumes} {quote([self.image, *(self.cmd or ())])}"
        _make, _places, *settings = super().shell().splitlines()
        user = [f'echo {quote([self.user])} >"$lab"/{quote([self.node])}.user'] if self.user else []
        return "\n".join([create, *user, *settings])

    def _volumes(self) -> Iterator[tuple[str, str]]:
        for mount in self.mounts:
            source, target, mode = mount.rsplit(":", 2)
            yield source, f"{target}:{mode}"

    def undo(self) -> Operation:
        return RemoveNode(self.node)


def create_container(node: Node, container: Container) -> CreateContainer:
    """The operation that makes `node` as `container` says."""
    ours = container.image is None
    extra = tuple(name for name in container.capabilities if name not in CAPABILITIES)
    return CreateContainer(
        node.name,
        ipv6=node.ipv6,
        forwards=node.forwards,
        image=container.image or image_for(node),
        cmd=container.cmd,
        user=container.user,
        cpus=container.cpus,
        memory_bytes=container.memory_bytes,
        capabilities=CAPABILITIES + extra,
        mounts=tuple(f"{one.source}:{one.target}:{'ro' if one.read_only else 'rw'}" for one in node.binds),
        in_memory=("/run:exec,mode=755", "/tmp:exec,mode=1777") if ours else (),  # noqa: S108
        env=dict(node.env),
    )
