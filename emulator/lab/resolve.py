"""From what was written to a lab in which nothing is open; what cannot be is reported, all of it at once."""

from __future__ import annotations

import functools
import posixpath
import re
from collections.abc import Callable, Collection, Iterable, Iterator
from ipaddress import IPv6Address, IPv6Interface, ip_address
from pathlib import Path as FilePath
from typing import Any

from emulator.lab import references
from emulator.lab.binds import resolve_binds
from emulator.lab.checks.base import Check
from emulator.lab.checks.frames import CommandOutput
from emulator.lab.document import Path
from emulator.lab.load import Lab, load
from emulator.lab.model import LabSpec, StepSpec
from emulator.lab.nodes import Backend, BridgeSpec, NodeSpec
from emulator.lab.problems import Problems, near
from emulator.lab.resolved import (
    CA_FILE,
    NO_SERVICES,
    SWITCH_BRIDGE,
    AnyAddress,
    Bridge,
    Container,
    File,
    Interface,
    Node,
    Program,
    ResolvedLab,
    Route,
    Scene,
    Step,
    Twin,
    client_name,
)
from emulator.lab.routing import compute_routes
from emulator.lab.services_check import check_services
from emulator.lab.topology import Topology, build_topology, split_place
from emulator.lab.zones import build_zones


def resolve_file(path: FilePath, *, twin: str | None = None) -> ResolvedLab:
    """The resolved lab of the file at `path`; with `twin`, patched by the twin of that name."""
    return resolve(load(path, twin=twin))


def resolve(lab: Lab, *, backend: Backend = "netns") -> ResolvedLab:
    """`lab` with every address, MAC, route, zone, template and filter filled in.

    Args:
        backend: what nodes are made of of which the file does not say it.

    Raises:
        LabFileError: with all problems at once.
    """
    return _Resolver(lab, backend).run()


def _escaped(lookup: Callable[[str], str | None]) -> Callable[[str], str | None]:
    """`lookup` for a regular expression: what it finds is matched letter by letter."""

    def find(name: str) -> str | None:
        found = lookup(name)
        return None if found is None else re.escape(found)

    return find


_OF_CONTAINERS = ("image", "cmd", "user", "cpus", "memory", "cap_add")


class _Resolver:
    def __init__(self, lab: Lab, backend: Backend) -> None:
        self.spec: LabSpec = lab.spec
        self.backend = backend
        self.included = lab.included
        self.problems = Problems(lab.document)
        self.topology: Topology
        self.reserved: dict[str, AnyAddress] = {}

    def run(self) -> ResolvedLab:
        self.topology = build_topology(self.spec, self.problems)
        self.reserved = {
            node: address
            for other in self.spec.nodes.values()
            if other.services.dnsmasq
            for pool in other.services.dnsmasq.dhcp
            for node, address in pool.reservations.items()
        }
        self._check_references()
        self._check_names()
        check_services(self.spec, self.topology, self.problems)
        routes = compute_routes(self.spec, self.topology, self.problems)
        zones, hints = build_zones(self.spec, self.address_of, self.problems)
        nodes = {name: self._node(name, node, routes.get(name, ())) for name, node in self.spec.nodes.items()}
        lab = ResolvedLab(
            name=self.spec.name,
            title=self.spec.title,
            nodes=nodes,
            links=self.topology.links,
            segments=self.topology.segments,
            zones=zones,
            root_hints=hints,
            scenes=self._scenes(),
            checks=tuple(self._expanded(check, ("checks", index)) for index, check in enumerate(self.spec.checks)),
            twins={
                name: Twin(name, spec, self._steps(f"break-{name}", spec.steps, ("break", name, "steps")))
                for name, spec in self.spec.break_.items()
            },
            included=self.included,
        )
        self.problems.stop()
        return lab

    def address_of(self, text: str, version: int | None = None) -> AnyAddress | None:
        """The address that `text` stands for: itself, a node's (fixed, reserved, or made of what its router announces),
        or an interface's; with `version` one of IPv4 or IPv6."""
        if references.is_address(text):
            return ip_address(text)
        node, name = split_place(text)
        for entry in self._interfaces(node):
            if name not in (None, entry.name) or (entry.is_loopback and name is None):
                continue
            for address in entry.addresses:
                if version in (None, address.version):
                    return address.ip
            if entry.dhcp and node in self.reserved and version != 6:
                return self.reserved[node]
            if entry.slaac and version != 4 and (own := self._autoconfigured(entry)):
                return own
        return None

    def _autoconfigured(self, interface: Interface) -> AnyAddress | None:
        """The address that an interface makes of the prefix that its router announces (RFC 4862, 5.5.3) and its MAC
        (modified EUI-64, RFC 4291, appendix A)."""
        octets = bytearray.fromhex(interface.mac.replace(":", ""))
        octets[0] ^= 2
        identifier = int.from_bytes(bytes(octets[:3]) + b"\xff\xfe" + bytes(octets[3:]), "big")
        for node, name in self.topology.segments[interface.segment].members:
            dnsmasq = self.spec.nodes[node].services.dnsmasq
            if dnsmasq and any(entry.interface == name for entry in dnsmasq.ra):
                for address in self.topology.interfaces[node, name].addresses:
                    if isinstance(address, IPv6Interface) and address.network.prefixlen == 64:
                        return IPv6Address(int(address.network.network_address) | identifier)
        return None

    def _interfaces(self, node: str) -> tuple[Interface, ...]:
        return self.topology.by_node.get(node, ())

    def _lookup(self, path: Path) -> Callable[[str], str | None]:
        """A function from a template's name (`web.ip`, `home.wan.mac`) to its value; unknown names are problems."""

        def find(name: str) -> str | None:
            if name.startswith("run.") or name == "gateway":
                return None
            node, _, rest = name.partition(".")
            interface, _, what = rest.rpartition(".")
            found = [entry for entry in self._interfaces(node) if interface in ("", entry.name)]
            if what == "mac" and found:
                return found[0].mac
            if what == "net" and found and found[0].addresses:
                return str(found[0].addresses[0].network)
            if what in ("ip", "ip6") and found:
                place = f"{node}:{interface}" if interface else node
                address = self.address_of(place, 6) if what == "ip6" else self.address_of(place, 4)
                address = address or (self.address_of(place) if what == "ip" else None)
                if address is not None:
                    return str(address)
                if any(entry.dhcp for entry in found):
                    text = f"{{{name}}}: the address of {node} is given by DHCP and not known before"
                    self.problems.add(path, text, "reserve it an address")
                else:
                    self.problems.add(path, f"{{{name}}}: {node} has no {'IPv6 ' if what == 'ip6' else ''}address")
            elif node in self.spec.nodes and what in ("ip", "ip6", "net", "mac"):
                if self.topology.complete:
                    missing = f"{node} has no interface {interface}" if interface else f"{node} has no interface"
                    self.problems.add(path, f"{{{name}}}: {missing}", near(interface, self._names(node)))
            else:
                hint = near(node, self.spec.nodes) if node not in self.spec.nodes else None
                forms = "{NODE.ip}, {NODE.ip6}, {NODE.mac}, {NODE.INTERFACE.ip}, … and {NODE.INTERFACE.net} are known"
                self.problems.add(path, f"nothing is called {{{name}}}", hint or forms)
            return None

        return find

    def _names(self, node: str) -> list[str]:
        return [entry.name for entry in self._interfaces(node)]

    def _check_references(self) -> None:
        scenes = {scene.name for scene in self.spec.scenes}
        places = {f"{node}:{interface}" for node, interface in self.topology.interfaces}
        services = self._services()
        for to, text, path in references.references(self.spec, ()):
            node = split_place(text)[0]
            if to == "node" and text not in self.spec.nodes:
                self.problems.add(path, f"no node '{text}'", near(text, self.spec.nodes))
            elif to in ("endpoint", "place") and text not in places:
                self._check_place(to, text, path, places)
            elif to == "scene" and text not in scenes:
                self.problems.add(path, f"no scene '{text}'", near(text, sorted(scenes)))
            elif to == "node or service" and text not in self.spec.nodes and text not in services:
                kind, known = ("service", services) if ":" in text else ("node", [*self.spec.nodes])
                self.problems.add(path, f"no {kind} '{text}'", near(text, known))
            elif to == "service" and text not in services:
                self.problems.add(path, f"no service '{text}'", near(text, services))
            elif to == "filter":
                self._check_filter(text, path)
            elif to == "address" and self.address_of(text) is None:
                self._check_address(text, node, path)

    def _services(self) -> list[str]:
        """`node:service` of all services, the DHCP clients too."""
        known = [
            f"{name}:{service}"
            for name, spec in self.spec.nodes.items()
            for service, value in spec.services
            if value is not None
        ]
        known += [f"{name}:{program}" for name, spec in self.spec.nodes.items() for program in spec.programs]
        known += [
            f"{name}:https" for name, spec in self.spec.nodes.items() if spec.services.http and spec.services.http.tls
        ]
        for node in self.spec.nodes:
            clients = [entry.name for entry in self._interfaces(node) if entry.dhcp]
            known += [f"{node}:{client_name(name, alone=len(clients) == 1)}" for name in clients]
        return known

    def _check_place(self, to: str, text: str, path: Path, places: Collection[str]) -> None:
        """An interface, or where `to` is `place` a node, that is not there."""
        node, interface = split_place(text)
        if node not in self.spec.nodes:
            self.problems.add(path, f"no node '{node}'", near(node, self.spec.nodes))
        elif interface is None:
            if to == "endpoint":
                known = self._names(node)
                hint = f"{node}:{known[0]}" if len(known) == 1 else near("", [f"{node}:{name}" for name in known])
                self.problems.add(path, f"'{text}' is a node; an interface of it is expected", hint)
        elif self.topology.complete or interface in self.spec.nodes[node].interfaces:
            self.problems.add(path, f"{node} has no interface '{interface}'", near(interface, self._names(node)))

    def _check_filter(self, text: str, path: Path) -> None:
        before = len(self.problems.found)
        wrong = references.filter_problem(text, self._lookup(path))
        if wrong and len(self.problems.found) == before:
            self.problems.add(path, f"not a display filter: {wrong.message}", wrong.hint, offset=wrong.offset)

    def _check_address(self, text: str, node: str, path: Path) -> None:
        interface = split_place(text)[1]
        if node not in self.spec.nodes:
            self.problems.add(path, f"'{text}' is neither an address nor a node", near(node, self.spec.nodes))
        elif interface is not None and interface not in self._names(node):
            if self.topology.complete:
                self.problems.add(path, f"{node} has no interface '{interface}'", near(interface, self._names(node)))
        elif self.topology.complete or self._interfaces(node):
            self.problems.add(path, f"{text} has no fixed address", "give it one, or reserve one by DHCP")

    def _check_names(self) -> None:
        """What must be unique is, and what names checks, scenes' steps and their outputs exists."""
        self._unique("checks", (check.name for check in self.spec.checks))
        self._unique("scenes", (scene.name for scene in self.spec.scenes))
        self._unique_steps()
        steps = {step.id for scene in self.spec.scenes for step in scene.steps if step.id}
        checks = [check.name for check in self.spec.checks]
        for index, check in enumerate(self.spec.checks):
            step = getattr(check, "step", None)
            if step is not None and step not in steps:
                self.problems.add(("checks", index, "step"), f"no step with the id '{step}'", near(step, sorted(steps)))
            if isinstance(check, CommandOutput) and check.on in self.spec.nodes and step in steps:
                runs_on = [node for scene in self.spec.scenes for s in scene.steps if s.id == step for node in s.on]
                if check.on not in runs_on:
                    hint = f"it runs on {', '.join(runs_on)}" if runs_on else "it runs no command"
                    self.problems.add(("checks", index, "on"), f"step '{step}' does not run on {check.on}", hint)
            for field in ("inside", "outside"):
                name = getattr(check, field, None)
                router = getattr(check, "router", None)
                if name is None or router not in self.spec.nodes or not self.topology.complete:
                    continue
                if (router, name) not in self.topology.interfaces:
                    text = f"{router} has no interface '{name}'"
                    self.problems.add(("checks", index, field), text, near(name, self._names(router)))
            for field in ("router", "switch"):
                name = getattr(check, field, None)
                if isinstance(name, str) and name in self.spec.nodes and self.spec.nodes[name].kind != field:
                    text = f"{name} is a {self.spec.nodes[name].kind}, not a {field}"
                    self.problems.add(("checks", index, field), text)
        for name, twin in self.spec.break_.items():
            for index, check_name in enumerate(twin.fails):
                if check_name not in checks:
                    self.problems.add(
                        ("break", name, "fails", index), f"no check '{check_name}'", near(check_name, checks)
                    )

    def _unique_steps(self) -> None:
        first: set[str] = set()
        for scene_index, scene in enumerate(self.spec.scenes):
            running: list[str] = []
            for index, step in enumerate(scene.steps):
                if step.background and step.id:
                    running.append(step.id)
                if step.stop is not None and step.stop not in running:
                    path = ("scenes", scene_index, "steps", index, "stop")
                    text = f"no background step before this one in the scene has the id '{step.stop}'"
                    self.problems.add(path, text, near(step.stop, running))
                if step.id in first:
                    path = ("scenes", scene_index, "steps", index, "id")
                    self.problems.add(path, f"'{step.id}' is the id of another step too")
                elif step.id:
                    first.add(step.id)

    def _unique(self, part: str, names: Iterable[str]) -> None:
        first: dict[str, int] = {}
        for index, name in enumerate(names):
            if first.setdefault(name, index) != index:
                self.problems.add((part, index, "name"), f"'{name}' is the name of another one too")

    def _node(self, name: str, spec: NodeSpec, routes: tuple[Route, ...]) -> Node:
        servers = [self.address_of(text) for text in spec.dns]
        for index, port in enumerate(spec.nat.publish if spec.nat else ()):
            if port.to in self.spec.nodes and self.address_of(port.to) is None and self._interfaces(port.to):
                path: Path = ("nodes", name, "nat", "publish", index, "to")
                if ("nodes", name, "nat", "publish", "to") in self.problems.document.places:
                    path = ("nodes", name, "nat", "publish", "to")
                self.problems.add(path, f"{port.to} has no fixed address", "give it one, or reserve one by DHCP")
        commands = ((command, self._lookup(("nodes", name, "exec", index))) for index, command in enumerate(spec.exec))
        hosts = ((host, self.address_of(text)) for host, text in spec.hosts.items())
        for program in spec.programs:
            if program in type(spec.services).model_fields or program.startswith("udhcpc"):
                path = ("nodes", name, "programs", program)
                self.problems.add(path, f"'{program}' is the name of a service", key=True)
        return Node(
            name=name,
            kind=spec.kind,
            about=spec.about or "",
            interfaces=self._interfaces(name),
            routes=routes,
            dns=tuple(server for server in servers if server is not None),
            sysctls={key: str(value) for key, value in spec.sysctls.items()},
            env={**(self._trust if spec.kind != "switch" else {}), **spec.env},
            exec=tuple(tuple(references.expand(word, lookup) for word in command) for command, lookup in commands),
            nat=spec.nat,
            firewall=spec.firewall,
            services=spec.services if any(value is not None for _, value in spec.services) else NO_SERVICES,
            bridges=tuple(self._bridges(name, spec)),
            hosts=tuple((host, address) for host, address in hosts if address is not None),
            files=tuple(self._files(name, spec)),
            programs=tuple(self._programs(name, spec)),
            binds=resolve_binds(spec.binds, posixpath.dirname(self.problems.document.file)),
            container=self._container(name, spec),
        )

    def _container(self, name: str, spec: NodeSpec) -> Container | None:
        """What is said of a node that is a container; a switch never is one."""
        asked = "docker" if spec.image is not None else None
        chosen = spec.backend or asked or ("netns" if spec.kind == "switch" else self.backend)
        given = [key for key in _OF_CONTAINERS if getattr(spec, key) not in (None, ())]
        if chosen == "netns" or spec.kind == "switch":
            if spec.kind == "switch":
                given = [*given, *(["backend"] if spec.backend == "docker" else [])]
            elif spec.backend is None:
                given = []  # they count once the lab is built of containers
            for key in given:
                why = "a switch is never a container" if spec.kind == "switch" else "the node is no container"
                self.problems.add(("nodes", name, key.replace("_", "-")), f"`{key.replace('_', '-')}`: {why}")
            return None
        lookup = self._lookup(("nodes", name, "cmd"))
        return Container(
            image=spec.image,
            cmd=None if spec.cmd is None else tuple(references.expand(word, lookup) for word in spec.cmd),
            user=spec.user or "",
            cpus=spec.cpus,
            memory_bytes=spec.memory,
            capabilities=spec.cap_add,
        )

    @functools.cached_property
    def _trust(self) -> dict[str, str]:
        """What makes programs trust the lab's CA (SSL_CTX_load_verify_locations(3), curl(1)), in a lab with TLS."""
        servers = (node.services.http for node in self.spec.nodes.values())
        trusted = any(server.tls for server in servers if server)
        return {"SSL_CERT_FILE": CA_FILE, "CURL_CA_BUNDLE": CA_FILE} if trusted else {}

    def _bridges(self, name: str, spec: NodeSpec) -> Iterator[Bridge]:
        """The bridges of a node; a switch has one even if the file says nothing about it."""
        switch = spec.kind == "switch"
        wanted = dict(spec.bridges) if not switch else {SWITCH_BRIDGE: spec.bridges.get(SWITCH_BRIDGE, BridgeSpec())}
        for bridge, settings in wanted.items():
            own = self.topology.interfaces.get((name, bridge))
            yield Bridge(
                name=bridge,
                ports=tuple(entry.name for entry in self._interfaces(name) if entry.bridge == bridge),
                mac=own.mac if own else None,
                ageing_s=settings.ageing,
                stp=settings.stp,
                priority=settings.priority,
                hello_time_s=settings.hello_time,
                forward_delay_s=settings.forward_delay,
                max_age_s=settings.max_age,
            )

    def _files(self, name: str, spec: NodeSpec) -> Iterator[File]:
        for path, file in spec.files.items():
            here: Path = ("nodes", name, "files", path)
            if file.from_ is not None:
                content = self.included.get(file.from_, "")
            else:
                content = references.expand(file.text or "", self._lookup(here))
            yield File(path, content, int(file.mode, 8))

    def _programs(self, name: str, spec: NodeSpec) -> Iterator[Program]:
        for program, settings in spec.programs.items():
            lookup = self._lookup(("nodes", name, "programs", program))
            ready: tuple[str, int | str] | None = None
            for kind in ("tcp", "udp", "file"):
                value = getattr(settings.ready, kind, None)
                if value is not None:
                    ready = (kind, value)
            argv = tuple(references.expand(word, lookup) for word in settings.run)
            yield Program(program, argv, ready, settings.restart or "")

    def _scenes(self) -> tuple[Scene, ...]:
        return tuple(
            Scene(scene.name, scene.about or "", self._steps(scene.name, scene.steps, ("scenes", index, "steps")))
            for index, scene in enumerate(self.spec.scenes)
        )

    def _steps(self, scene: str, specs: tuple[StepSpec, ...], path: Path) -> tuple[Step, ...]:
        steps = []
        for index, spec in enumerate(specs):
            lookup = self._lookup((*path, index, "run"))
            action, value = spec.action
            argv = tuple(references.expand(word, lookup) for word in spec.run or ())
            steps.append(
                Step(
                    id=spec.id or f"{scene}-{index + 1}",
                    action=action,
                    nodes=spec.on,
                    argv=argv,
                    target=value if isinstance(value, str) else "",
                    groups=spec.partition or (),
                    timeout_s=spec.timeout,
                    stdin=references.expand(spec.stdin, lookup),
                    background=spec.background,
                    until=spec.until and references.expand(spec.until, _escaped(lookup)),
                    unattended=spec.unattended,
                )
            )
        return tuple(steps)

    def _expanded(self, check: Check, path: Path) -> Check:
        """`check` with the templates of its texts filled in; what a run decides (`{run.port}`) stays."""
        changes: dict[str, Any] = {}
        for name, value in check:
            here = (*path, type(check).model_fields[name].alias or name)
            literal = isinstance(check, CommandOutput) and name in ("matches", "lacks")
            if isinstance(value, str):
                changes[name] = references.expand(value, self._lookup(here))
            elif isinstance(value, tuple) and all(isinstance(item, str) for item in value):
                lookups = (self._lookup((*here, index)) for index in range(len(value)))
                changes[name] = tuple(
                    references.expand(item, _escaped(lookup) if literal else lookup)
                    for item, lookup in zip(value, lookups, strict=True)
                )
        return check.model_copy(update=changes)
