"""Routes by shortest path: everything that can be reached is, nothing that is hidden leaks."""

from __future__ import annotations

import time
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.errors import LabFileError, Problem
from emulator.lab.resolved import AnyAddress, Node, ResolvedLab

Resolved = Callable[..., ResolvedLab]


def next_hop(lab: ResolvedLab, node: Node, target: AnyAddress) -> str | None:
    """The node that `node` sends packets for `target` to; itself when they arrive; None when it has no route."""
    best: tuple[int, AnyAddress | None, str] | None = None
    for interface in node.interfaces:
        for address in interface.addresses:
            if target in address.network:
                best = max(
                    best or (-1, None, ""), (address.network.prefixlen, None, interface.name), key=lambda x: x[0]
                )
    for route in node.routes:
        length = route.to.prefixlen if route.to else 0
        if (route.to is None or target in route.to) and route.via.version == target.version:
            best = max(best or (-1, None, ""), (length, route.via, route.interface), key=lambda x: x[0])
    if best is None:
        return None
    wanted = best[1] or target
    for owner, name in lab.segments[node.interface(best[2]).segment].members:
        if any(address.ip == wanted for address in lab.nodes[owner].interface(name).addresses):
            return owner
    return None


def walk(lab: ResolvedLab, start: str, target: AnyAddress) -> list[str]:
    """The nodes that a packet passes; the last one has the address, or does not know where to send it."""
    path = [start]
    while all(address.ip != target for address in lab.nodes[path[-1]].addresses):
        following = next_hop(lab, lab.nodes[path[-1]], target)
        if following is None:
            return path
        assert following not in path, f"a loop: {path} {following}"
        path.append(following)
    return path


def inside_of(source: dict[str, Any]) -> dict[str, frozenset[str]]:
    """Segment of each interface's cable, by node: the translating routers that a node is behind."""
    inner: dict[str, frozenset[str]] = {}
    for name, node in source["nodes"].items():
        if not inner:
            inner[name] = frozenset()
            continue
        for link in source["links"]:
            ends = [end.split(":")[0] for end in link]
            if name in ends:
                parent = ends[1 - ends.index(name)]
                inner[name] = inner[parent] | ({name} if "nat" in node else set())
                break
    return inner


@given(data=st.data())
def test_everything_that_is_not_hidden_is_reached(
    data: st.DataObject, networks: st.SearchStrategy[dict[str, Any]], resolved: Resolved
) -> None:
    source = data.draw(networks)
    lab = resolved(source)
    inner = inside_of(source)
    for start, node in lab.nodes.items():
        for interface in lab.interfaces():
            for address in interface.addresses if node.kind != "switch" and node.interfaces else ():
                behind = inner[interface.node] - ({interface.node} if interface.name == "up" else set())
                path = walk(lab, start, address.ip)
                if behind <= inner[start]:
                    assert path[-1] == interface.node, (start, interface.place)


@given(data=st.data())
def test_nobody_outside_has_a_route_to_what_is_hidden(
    data: st.DataObject, networks: st.SearchStrategy[dict[str, Any]], resolved: Resolved
) -> None:
    source = data.draw(networks)
    lab = resolved(source)
    inner = inside_of(source)
    hidden = {
        address.network: inner[interface.node] - ({interface.node} if interface.name == "up" else set())
        for interface in lab.interfaces()
        for address in interface.addresses
    }
    for name, node in lab.nodes.items():
        for route in node.routes:
            if route.to is not None:
                assert hidden[route.to] <= inner[name], (name, route)


TWO_ROUTERS = """
name: l
nodes:
  pc: {interfaces: {eth0: 10.0.0.9/24}%s}
  sw: {kind: switch}
  a: {kind: router, interfaces: {lan: 10.0.0.1/24, far: 10.1.0.1/24}}
  b: {kind: router, interfaces: {lan: 10.0.0.2/24, x: 10.2.0.1/24, y: 10.3.0.1/24}}
  h1: {interfaces: {eth0: 10.1.0.9/24}}
  h2: {interfaces: {eth0: 10.2.0.9/24}}
  h3: {interfaces: {eth0: 10.3.0.9/24}}
links: [["pc:eth0", sw], ["a:lan", sw], ["b:lan", sw], ["a:far", "h1:eth0"], ["b:x", "h2:eth0"], ["b:y", "h3:eth0"]]
"""


def routes(lab: ResolvedLab, node: str) -> list[tuple[str, str]]:
    return [(str(route.to or "default"), str(route.via)) for route in lab.nodes[node].routes]


def test_two_routers_on_one_segment(resolved: Resolved) -> None:
    lab = resolved(TWO_ROUTERS % "")
    assert routes(lab, "pc") == [("default", "10.0.0.2"), ("10.1.0.0/24", "10.0.0.1")]
    assert routes(lab, "a") == [("10.2.0.0/24", "10.0.0.2"), ("10.3.0.0/24", "10.0.0.2")]
    assert routes(lab, "h1") == [("default", "10.1.0.1")]


def test_given_routes_win(resolved: Resolved) -> None:
    lab = resolved(
        TWO_ROUTERS % ", gateway: a, routes: [{to: 10.2.0.0/24, via: 10.0.0.77}, {to: 10.3.0.0/24, via: 'b:lan'}]"
    )
    assert routes(lab, "pc")[:3] == [("10.2.0.0/24", "10.0.0.77"), ("10.3.0.0/24", "10.0.0.2"), ("default", "10.0.0.1")]
    assert routes(lab, "pc")[3:] == [("10.1.0.0/24", "10.0.0.1")]


def test_two_homes_on_one_segment_do_not_route_through_each_other(resolved: Resolved) -> None:
    home = "{{kind: router, interfaces: {{wan: 192.0.2.{n}/24, lan: 192.168.1.1/24}}, nat: {{masquerade: wan}}}}"
    lab = resolved(f"""
        name: l
        nodes:
          ha: {home.format(n=2)}
          hb: {home.format(n=3)}
          isp: {{kind: router, interfaces: {{in: 192.0.2.1/24, out: 198.51.100.1/24}}}}
          web: {{interfaces: {{eth0: 198.51.100.2/24}}}}
          pa:
          pb:
          sw: {{kind: switch}}
        links: [["ha:wan", sw], ["hb:wan", sw], ["isp:in", sw], ["isp:out", "web:eth0"], ["ha:lan", pa], ["hb:lan", pb]]
    """)
    assert routes(lab, "ha") == routes(lab, "hb") == [("default", "192.0.2.1")]
    assert routes(lab, "isp") == []


def test_both_versions_have_routes(resolved: Resolved) -> None:
    lab = resolved("""
        name: l
        nodes:
          a: {interfaces: {eth0: [10.0.0.2/24, "2001:db8:1::2/64"]}}
          r: {kind: router, interfaces: {x: [10.0.0.1/24, "2001:db8:1::1/64"], y: [10.0.1.1/24, "2001:db8:2::1/64"]}}
          s: {kind: router, interfaces: {y: [10.0.1.2/24, "2001:db8:2::2/64"], z: [10.0.2.1/24, "2001:db8:3::1/64"]}}
          b: {interfaces: {eth0: "2001:db8:3::9/64"}}
        links: [["a:eth0", "r:x"], ["r:y", "s:y"], ["s:z", "b:eth0"]]
    """)
    assert routes(lab, "a") == [("default", "10.0.0.1"), ("default", "2001:db8:1::1")]
    assert routes(lab, "b") == [("default", "2001:db8:3::1")]
    assert routes(lab, "r") == [("10.0.2.0/24", "10.0.1.2"), ("2001:db8:3::/64", "2001:db8:2::2")]


def test_translation_hides_ipv4_only(resolved: Resolved) -> None:
    lab = resolved("""
        name: l
        nodes:
          pc: {interfaces: {eth0: [192.168.3.9/24, "2001:db8:3::9/64"]}}
          home:
            kind: router
            interfaces: {lan: [192.168.3.1/24, "2001:db8:3::1/64"], wan: [203.0.113.2/24, "2001:db8:f::2/64"]}
            nat: {masquerade: wan}
          isp:
            kind: router
            interfaces: {in: [203.0.113.1/24, "2001:db8:f::1/64"], out: [192.0.2.1/24, "2001:db8:80::1/64"]}
          web: {interfaces: {eth0: [192.0.2.80/24, "2001:db8:80::80/64"]}}
        links: [["pc:eth0", "home:lan"], ["home:wan", "isp:in"], ["isp:out", "web:eth0"]]
    """)
    assert routes(lab, "isp") == [("2001:db8:3::/64", "2001:db8:f::2")]
    assert routes(lab, "home") == [("default", "203.0.113.1"), ("default", "2001:db8:f::1")]
    assert walk(lab, "web", IPv6Address("2001:db8:3::9")) == ["web", "isp", "home", "pc"]


def test_the_home_lab(resolved: Resolved, labs_folder: Any) -> None:
    lab = resolved((labs_folder / "nat" / "lab.yml").read_text(encoding="utf-8"))
    assert routes(lab, "home") == [("default", "203.0.113.1")]
    assert routes(lab, "isp") == [] and routes(lab, "web") == [("default", "192.0.2.1")]
    assert walk(lab, "outside", IPv4Address("198.51.100.53")) == ["outside", "isp", "resolver"]
    assert walk(lab, "outside", IPv4Address("192.168.1.1")) == ["outside", "isp"]


@pytest.mark.parametrize(("chain", "count"), [(40, 40)])
def test_a_long_chain(resolved: Resolved, chain: int, count: int) -> None:
    nodes = {f"r{number}": {"kind": "router"} for number in range(chain)}
    links = [[f"r{number}", f"r{number + 1}"] for number in range(chain - 1)]
    lab = resolved({"name": "l", "nodes": nodes, "links": links})
    assert len(walk(lab, "r0", lab.nodes[f"r{chain - 1}"].addresses[0].ip)) == count


def test_too_many_routes(problems: Callable[..., tuple[Problem, ...]]) -> None:
    nodes = {f"r{number}": {"kind": "router"} for number in range(130)}
    links = [[a, b] for a in nodes for b in nodes if a < b]
    (found,) = problems({"name": "l", "nodes": nodes, "links": links})
    assert found.message == "130 routers with 8,385 networks need too many routes: more than 1,000,000"


def test_only_given_routes(resolved: Resolved) -> None:
    lab = resolved("""
        name: l
        defaults: {routes: given}
        nodes:
          a: {interfaces: {eth0: 10.0.1.2/24}, gateway: 10.0.1.1}
          r: {kind: router, interfaces: {eth0: 10.0.1.1/24, eth1: 10.0.2.1/24}}
          s: {kind: router, interfaces: {eth0: 10.0.2.2/24, eth1: 10.0.3.1/24}, routes: [{to: 10.0.1.0/24, via: r}]}
          b: {interfaces: {eth0: 10.0.3.2/24}}
        links: [["a:eth0", "r:eth0"], ["r:eth1", "s:eth0"], ["s:eth1", "b:eth0"]]
    """)
    routes = {name: [str(route.to or "default") for route in node.routes] for name, node in lab.nodes.items()}
    assert routes == {"a": ["default"], "r": [], "s": ["10.0.1.0/24"], "b": []}


def test_many_routers_on_one_network_are_quick_or_refused(resolved: Resolved) -> None:
    began = time.perf_counter()
    lab = resolved("{name: l, nodes: {r: {count: 100, kind: router}, sw: {kind: switch}}, links: [[r, sw]]}")
    assert len(lab.nodes) == 101 and not any(node.routes for node in lab.nodes.values())
    text = """
        name: l
        nodes: {r: {count: 2000, kind: router}, s1..s2: {kind: switch}}
        links: [[r1..r1000, s1], [r1001..r2000, s2], [s1, s2]]
    """
    with pytest.raises(LabFileError, match="2,000 routers on one network of 2,000 need too many routes"):
        resolved(text)
    assert time.perf_counter() - began < 30
