"""The plan: complete, in order, the same every time."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emulator.lab.resolved import ResolvedLab
from emulator.plan import ops
from emulator.plan.addresses import address_in, gateway
from emulator.plan.compile import compile_plan
from emulator.plan.script import as_script

Resolved = Callable[..., ResolvedLab]


@pytest.fixture(scope="session")
def nat(resolved: Resolved, labs_folder: Path) -> ResolvedLab:
    """The home router lab."""
    return resolved((labs_folder / "nat" / "lab.yml").read_text(encoding="utf-8"))


def check_order(plan: ops.Plan) -> None:
    """Everything stands behind what it needs."""
    nodes: set[str] = set()
    interfaces: set[tuple[str, str]] = set()
    addressed: set[tuple[str, str]] = set()
    up: set[tuple[str, str]] = set()
    files: set[tuple[str, str]] = set()
    started: set[tuple[str, str]] = set()
    waited: set[tuple[str, str]] = set()
    for step in plan.operations:
        match step:
            case ops.CreateNode():
                assert step.node not in nodes
                nodes.add(step.node)
                continue
            case ops.CreateLink():
                assert step.peer_node in nodes
                for place in ((step.node, step.interface), (step.peer_node, step.peer_interface)):
                    assert place not in interfaces
                    interfaces.add(place)
            case ops.CreateBridge():
                assert not any(node == step.node for node, _ in interfaces)
                if step.mac is not None:  # the node has addresses there
                    interfaces.add((step.node, step.name))
                    up.add((step.node, step.name))
            case ops.AddAddress():
                assert (step.node, step.interface) in interfaces and (step.node, step.interface) not in up
                addressed.add((step.node, step.interface))
            case ops.SetUp():
                assert (step.node, step.interface) in interfaces
                up.add((step.node, step.interface))
            case ops.AddRoute():
                assert (step.node, step.interface) in up & addressed and up == interfaces
            case ops.SetSysctl() | ops.LoadRules():
                assert up == interfaces and not started
            case ops.Prepare():
                assert not started
            case ops.WriteFile() | ops.PutFile():
                assert (step.node, step.path) not in files and not started
                files.add((step.node, step.path))
            case ops.StartProcess():
                assert (step.node, step.service) not in started
                started.add((step.node, step.service))
            case ops.WaitUntil():
                assert (step.node, step.service) in started
                waited.add((step.node, step.service))
            case ops.RunCommand():
                assert started == waited
            case _:
                raise AssertionError(f"{step} does not build anything")
        assert step.node in nodes
    assert started == waited and up == interfaces


def test_the_home_lab_is_in_order(nat: ResolvedLab) -> None:
    plan = compile_plan(nat)
    check_order(plan)
    assert plan == compile_plan(nat)
    servers = [step.service for step in plan.operations if isinstance(step, ops.WaitUntil)]
    assert servers.index("dnsmasq") < servers.index("udhcpc")


@settings(max_examples=30)
@given(data=st.data())
def test_generated_labs_are_in_order(
    data: st.DataObject, networks: st.SearchStrategy[dict[str, Any]], resolved: Resolved
) -> None:
    lab = resolved(data.draw(networks))
    plan = compile_plan(lab)
    check_order(plan)
    assert [ops.from_json(step.to_json()) for step in plan.operations] == list(plan.operations)
    assert sum(isinstance(step, ops.CreateNode) for step in plan.operations) == len(lab.nodes)
    assert sum(isinstance(step, ops.CreateLink) for step in plan.operations) == len(lab.links)
    assert sum(isinstance(step, ops.LoadRules) for step in plan.operations) == sum(
        node.nat is not None for node in lab.nodes.values()
    )
    undone = [step.undo() for step in reversed(plan.operations)]
    assert [step.node for step in undone if isinstance(step, ops.RemoveNode)] == list(reversed(lab.nodes))
    assert sum(isinstance(step, ops.RemoveLink) for step in undone) == len(lab.links)


@settings(max_examples=8)
@given(data=st.data())
def test_scripts_of_generated_labs_are_shell(
    data: st.DataObject, networks: st.SearchStrategy[dict[str, Any]], resolved: Resolved
) -> None:
    script = as_script(compile_plan(resolved(data.draw(networks))))
    subprocess.run(["sh", "-n"], input=script.encode(), check=True)


def test_ipv6_is_on_where_it_is_used(resolved: Resolved) -> None:
    lab = resolved("{name: l, nodes: {a: {interfaces: {x: '2001:db8::1/64'}}, b: }, links: [['a:x', b]]}")
    created = {step.node: step.ipv6 for step in compile_plan(lab).operations if isinstance(step, ops.CreateNode)}
    assert created == {"a": True, "b": False}


def rules_of(lab: ResolvedLab, node: str) -> list[str]:
    (step,) = (step for step in compile_plan(lab).operations if isinstance(step, ops.LoadRules) and step.node == node)
    return step.rules.splitlines()


def test_rules_of_the_home_router(nat: ResolvedLab) -> None:
    assert rules_of(nat, "home") == [
        "*nat",
        ":PREROUTING ACCEPT [0:0]",
        ":INPUT ACCEPT [0:0]",
        ":OUTPUT ACCEPT [0:0]",
        ":POSTROUTING ACCEPT [0:0]",
        "-A PREROUTING -i wan -d 203.0.113.2 -p tcp --dport 8080 -j DNAT --to-destination 192.168.1.10:80",
        "-A POSTROUTING -o wan -j MASQUERADE",
        "COMMIT",
        "*filter",
        ":INPUT ACCEPT [0:0]",
        ":FORWARD ACCEPT [0:0]",
        ":OUTPUT ACCEPT [0:0]",
        "-A INPUT -i wan -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
        "-A INPUT -i wan -j DROP",
        "-A FORWARD -i wan -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
        "-A FORWARD -i wan -m conntrack --ctstate DNAT -j ACCEPT",
        "-A FORWARD -i wan -j DROP",
        "-A FORWARD -o wan -m conntrack --ctstate INVALID -j DROP",
        "COMMIT",
    ]


def test_rules_that_drop_private_addresses(nat: ResolvedLab) -> None:
    drops = [line for line in rules_of(nat, "isp") if line.startswith("-A")]
    assert len(drops) == 6 and all("--comment private -j DROP" in line for line in drops)


def test_a_port_of_an_outside_address_that_is_not_known_before(resolved: Resolved) -> None:
    lab = resolved("""
        name: l
        nodes:
          up: {kind: router, interfaces: {lan: 192.0.2.1/24},
               services: {dnsmasq: {dhcp: [{interface: lan, range: 192.0.2.10-192.0.2.20}]}}}
          r: {kind: router, interfaces: {wan: dhcp, lan: 192.168.1.1/24},
              nat: {masquerade: wan, publish: {port: 53, protocol: udp, to: s}}}
          s: {interfaces: {eth0: 192.168.1.2/24}}
        links: [["up:lan", "r:wan"], ["r:lan", "s:eth0"]]
    """)
    wanted = (
        "-A PREROUTING -i wan -m addrtype --dst-type LOCAL -p udp --dport 53 -j DNAT --to-destination 192.168.1.2:53"
    )
    assert wanted in rules_of(lab, "r")


def test_masquerade_of_some_protocols(resolved: Resolved) -> None:
    lab = resolved("""
        name: l
        nodes: {r: {kind: router, nat: {masquerade: {out: w, protocols: [tcp, icmp]}}}, a: }
        links: [["r:w", a]]
    """)
    translated = [line for line in rules_of(lab, "r") if "MASQUERADE" in line]
    assert translated == [f"-A POSTROUTING -o w -p {protocol} -j MASQUERADE" for protocol in ("tcp", "icmp")]


def test_addresses_by_name(nat: ResolvedLab) -> None:
    assert address_in(nat, "192.0.2.7") == "192.0.2.7"
    assert address_in(nat, "home") == "192.168.1.1" and address_in(nat, "home:wan") == "203.0.113.2"
    assert address_in(nat, "server") == address_in(nat, "server:eth0") == "192.168.1.10"
    for unknown in ("pc1", "nobody", "server:eth9"):
        with pytest.raises(KeyError):
            address_in(nat, unknown)


def test_gateways(nat: ResolvedLab) -> None:
    assert gateway(nat, "web") == "192.0.2.1" and gateway(nat, "pc1") == "192.168.1.1"
    assert gateway(nat, "home") == "203.0.113.1" and gateway(nat, "isp") is None


def file_of(lab: ResolvedLab, node: str, path: str) -> list[str]:
    (step,) = (
        s for s in compile_plan(lab).operations if isinstance(s, ops.WriteFile) and (s.node, s.path) == (node, path)
    )
    return step.content.splitlines()


def test_dnsmasq_of_the_home_router(nat: ResolvedLab) -> None:
    lines = file_of(nat, "home", "/run/wirelab/dnsmasq.conf")
    assert "dhcp-range=set:pool0,192.168.1.100,192.168.1.199,255.255.255.0,3600" in lines
    assert "dhcp-option=tag:pool0,option:router,192.168.1.1" in lines
    assert f"dhcp-host={nat.interface('server:eth0').mac},192.168.1.10,server" in lines
    assert "server=198.51.100.53" in lines and "interface=lan" in lines and "interface=wan" not in lines


def test_name_servers_of_a_node(nat: ResolvedLab) -> None:
    assert file_of(nat, "outside", "/etc/resolv.conf") == ["nameserver 198.51.100.53"]
    assert file_of(nat, "pc1", "/etc/resolv.conf") == []
    assert "198.18.0.99 outside" in file_of(nat, "outside", "/etc/hosts")


def test_the_zone_file_of_the_root(nat: ResolvedLab) -> None:
    lines = file_of(nat, "root", "/run/wirelab/root")
    assert lines[0].startswith(". 300 IN SOA a.root-servers.net. hostmaster.invalid. 1 ")
    assert "com. 300 IN NS a.gtld-servers.net." in lines and "a.dns.cn. 300 IN A 198.51.100.3" in lines


def test_a_resolver_on_a_node_that_asks_by_dhcp_listens_everywhere(resolved: Resolved) -> None:
    lab = resolved("""
        name: l
        nodes:
          r: {kind: router, interfaces: {lan: 192.168.1.1/24},
              services: {dnsmasq: {dhcp: [{interface: lan, range: 192.168.1.10-192.168.1.20}]}}}
          u: {interfaces: {eth0: dhcp}, services: {unbound: {root-hints: none}}}
        links: [["r:lan", "u:eth0"]]
    """)
    lines = file_of(lab, "u", "/run/wirelab/unbound.conf")
    assert [line.strip() for line in lines if " interface:" in line] == ["interface: 0.0.0.0"]


def test_tools_are_those_of_services_commands_and_rules(nat: ResolvedLab) -> None:
    tools = compile_plan(nat).tools
    assert {"dnsmasq", "unbound", "nsd", "busybox", "udhcpc", "iptables-restore", "conntrack", "curl", "dig"} <= set(
        tools
    )
    assert list(tools) == sorted(tools)


def test_commands_run_when_everything_answers(resolved: Resolved) -> None:
    lab = resolved("{name: l, nodes: {a: {exec: ['ip -br link', [logger, 'a b']], env: {X: y}}, b: }, links: [[a, b]]}")
    plan = compile_plan(lab)
    assert plan.operations[-2:] == (
        ops.RunCommand("a", ("ip", "-br", "link"), {"X": "y"}),
        ops.RunCommand("a", ("logger", "a b"), {"X": "y"}),
    )
    assert plan.tools == ("ip", "logger")
