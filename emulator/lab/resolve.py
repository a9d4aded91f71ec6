"""From what was written to a lab in which nothing is open; what cannot be is reported, all of it at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ipaddress import ip_address
from pathlib import Path as FilePath
from typing import Any, TypeVar

from pydantic import BaseModel

from emulator.lab import references
from emulator.lab.checks import Check
from emulator.lab.document import Path
from emulator.lab.load import Lab, load, near
from emulator.lab.model import LabSpec, NodeSpec, StepSpec
from emulator.lab.problems import Problems
from emulator.lab.resolved import AnyAddress, Interface, Node, ResolvedLab, Route, Scene, Step, Twin
from emulator.lab.routing import compute_routes
from emulator.lab.services_check import check_services
from emulator.lab.topology import Topology, build_topology, split_place
from emulator.lab.zones import build_zones

M = TypeVar("M", bound=BaseModel)


def resolve_file(path: FilePath, *, twin: str | None = None) -> ResolvedLab:
    """The resolved lab of the file at `path`; with `twin`, patched by the twin of that name."""
    return resolve(load(path, twin=twin))


def resolve(lab: Lab) -> ResolvedLab:
    """`lab` with every address, MAC, route, zone, template and filter filled in.

    Raises:
        LabFileError: with all problems at once.
    """
    return _Resolver(lab).run()


class _Resolver:
    def __init__(self, lab: Lab) -> None:
        self.spec: LabSpec = lab.spec
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
            scenes=self._scenes(nodes),
            checks=tuple(self._expanded(check, ("checks", index)) for index, check in enumerate(self.spec.checks)),
            twins={
                name: Twin(name, spec, self._steps(f"break-{name}", spec.steps, ("break", name, "steps"), nodes))
                for name, spec in self.spec.break_.items()
            },
        )
        self.problems.stop()
        return lab

    def address_of(self, text: str) -> AnyAddress | None:
        """The address that `text` stands for: itself, a node's (fixed or reserved), or an interface's."""
        if references.is_address(text):
            return ip_address(text)
        node, name = split_place(text)
        for (owner, interface), entry in self.topology.interfaces.items():
            if owner == node and name in (None, interface) and entry.addresses:
                return entry.addresses[0].ip
        return self.reserved.get(node)

    def _interfaces(self, node: str) -> list[Interface]:
        return [entry for (owner, _), entry in self.topology.interfaces.items() if owner == node]

    def _lookup(self, path: Path) -> Any:
        """A function from a template's name (`web.ip`, `home.wan.mac`) to its value; unknown names are problems."""

        def find(name: str) -> str | None:
            if name.startswith("run.") or name == "gateway":
                return None
            node, *rest = name.split(".")
            interfaces = self._interfaces(node)
            if len(rest) == 2:
                interfaces = [entry for entry in interfaces if entry.name == rest[0]]
            if node in self.spec.nodes and interfaces and rest[-1] in ("ip", "mac"):
                if rest[-1] == "mac":
                    return interfaces[0].mac
                fixed = [address for entry in interfaces for address in entry.addresses]
                address = fixed[0].ip if fixed else self.reserved.get(node)
                if address is not None:
                    return str(address)
                self.problems.add(path, f"the address of {node} is given by DHCP and not known before", "use its mac")
                return None
            self.problems.add(path, f"nothing is called {{{name}}}", "{node.ip}, {node.interface.ip} or {node.mac}")
            return None

        return find

    def _check_references(self) -> None:
        scenes = {scene.name for scene in self.spec.scenes}
        places = {f"{node}:{interface}" for node, interface in self.topology.interfaces}
        for to, text, path in references.references(self.spec, ()):
            if to == "node" and text not in self.spec.nodes:
                self.problems.add(path, f"no node '{text}'", near(text, list(self.spec.nodes)))
            elif to == "endpoint" and text not in places:
                self.problems.add(path, f"no interface '{text}'", near(text, sorted(places)))
            elif to == "place" and text not in places and text not in self.spec.nodes:
                self.problems.add(path, f"no node or interface '{text}'", near(text, [*self.spec.nodes, *sorted(places)]))
            elif to == "scene" and text not in scenes:
                self.problems.add(path, f"no scene '{text}'", near(text, sorted(scenes)))
            elif to == "service":
                self._check_service(text, path)
            elif to == "filter":
                wrong = references.filter_problem(references.expand(text, self._lookup(path)))
                if wrong and not self.problems.found:
                    self.problems.add(path, f"not a display filter: {wrong}")
            elif to == "address" and self.address_of(text) is None:
                self.problems.add(path, f"'{text}' is neither an address nor a node with one")

    def _check_service(self, text: str, path: Path) -> None:
        node, service = split_place(text)
        known = [
            f"{name}:{field}"
            for name, spec in self.spec.nodes.items()
            for field in type(spec.services).model_fields
            if getattr(spec.services, field) is not None
        ]
        known += [f"{owner}:udhcpc" for (owner, _), entry in self.topology.interfaces.items() if entry.dhcp]
        if f"{node}:{service}" not in known:
            self.problems.add(path, f"no service '{text}'", near(text, known))

    def _check_names(self) -> None:
        """What must be unique is, and what names checks, scenes' steps and their outputs exists."""
        self._unique("checks", (check.name for check in self.spec.checks))
        self._unique("scenes", (scene.name for scene in self.spec.scenes))
        steps = {step.id for scene in self.spec.scenes for step in scene.steps if step.id}
        checks = [check.name for check in self.spec.checks]
        for index, check in enumerate(self.spec.checks):
            step = getattr(check, "step", None)
            if step is not None and step not in steps:
                self.problems.add(("checks", index, "step"), f"no step with the id '{step}'", near(step, sorted(steps)))
            for field in ("inside", "outside"):
                name = getattr(check, field, None)
                router = getattr(check, "router", None)
                if name is not None and (router, name) not in self.topology.interfaces:
                    self.problems.add(("checks", index, field), f"no interface '{name}' on {router}")
        for name, twin in self.spec.break_.items():
            for index, check_name in enumerate(twin.fails):
                if check_name not in checks:
                    self.problems.add(
                        ("break", name, "fails", index), f"no check '{check_name}'", near(check_name, checks)
                    )

    def _unique(self, part: str, names: Iterable[str]) -> None:
        first: dict[str, int] = {}
        for index, name in enumerate(names):
            if first.setdefault(name, index) != index:
                self.problems.add((part, index, "name"), f"'{name}' is the name of another one too")

    def _node(self, name: str, spec: NodeSpec, routes: tuple[Route, ...]) -> Node:
        servers = [self.address_of(text) for text in spec.dns]
        for text, server in zip(spec.dns, servers, strict=True):
            if server is None:
                self.problems.add(("nodes", name, "dns"), f"'{text}' is neither an address nor a node with one")
        lookup = self._lookup(("nodes", name, "exec"))
        return Node(
            name=name,
            kind=spec.kind,
            about=spec.about or "",
            interfaces=tuple(self._interfaces(name)),
            routes=routes,
            dns=tuple(server for server in servers if server is not None),
            sysctls={key: str(value) for key, value in spec.sysctls.items()},
            env=dict(spec.env),
            exec=tuple(tuple(references.expand(word, lookup) for word in command) for command in spec.exec),
            nat=spec.nat,
            firewall=spec.firewall,
            services=spec.services,
        )

    def _scenes(self, nodes: Mapping[str, Node]) -> tuple[Scene, ...]:
        return tuple(
            Scene(scene.name, scene.about or "", self._steps(scene.name, scene.steps, ("scenes", index, "steps"), nodes))
            for index, scene in enumerate(self.spec.scenes)
        )

    def _steps(self, scene: str, specs: tuple[StepSpec, ...], path: Path, nodes: Mapping[str, Node]) -> tuple[Step, ...]:
        steps = []
        for index, spec in enumerate(specs):
            lookup = self._lookup((*path, index, "run"))
            action = next(name for name in ("run", "unplug", "plug", "kill", "reload") if getattr(spec, name) is not None)
            argv = tuple(references.expand(word, lookup) for word in spec.run or ())
            steps.append(
                Step(
                    id=spec.id or f"{scene}-{index + 1}",
                    action=action,
                    nodes=spec.on,
                    argv=argv,
                    target="" if action == "run" else str(getattr(spec, action)),
                    timeout_s=spec.timeout,
                )
            )
        return tuple(steps)

    def _expanded(self, check: Check, path: Path) -> Check:
        """`check` with the templates of its texts filled in; what a run decides (`{run.port}`) stays."""
        changes: dict[str, Any] = {}
        for name, value in check:
            lookup = self._lookup((*path, name.rstrip("_")))
            if isinstance(value, str):
                changes[name] = references.expand(value, lookup)
            elif isinstance(value, tuple) and all(isinstance(item, str) for item in value):
                changes[name] = tuple(references.expand(item, lookup) for item in value)
        return check.model_copy(update=changes)


def gateway_of(node: Node) -> str | None:
    """The next hop of the node's default route, when it is fixed."""
    return next((str(route.via) for route in node.routes if route.to is None), None)


