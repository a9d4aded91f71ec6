"""Labs from a few words: the same as the lab file that one would write, and wrong words are refused."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter, deque
from ipaddress import IPv4Address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emulator.errors import UsageError
from emulator.lab.document import parse
from emulator.lab.generate import KINDS, as_document, generate, note
from emulator.lab.generate import parse as parse_words
from emulator.lab.load import build
from emulator.lab.resolve import resolve
from emulator.lab.resolved import Node, ResolvedLab
from emulator.names import NODES_MAX
from emulator.plan.compile import compile_plan

WORDS = st.one_of(
    st.integers(1, 60).map(lambda hosts: f"single,{hosts}"),
    st.tuples(st.integers(1, 4), st.integers(1, 4)).map(lambda numbers: "tree,{},{}".format(*numbers)),
    st.integers(1, 40).map(lambda count: f"linear,{count}"),
    st.integers(3, 40).map(lambda count: f"ring,{count}"),
    st.sampled_from([2, 4, 6, 8]).map(lambda ports: f"fat-tree,{ports}"),
)


def from_a_file(words: str) -> ResolvedLab:
    return resolve(build(parse(json.dumps(as_document(words)).encode(), "lab.yml")))


@settings(max_examples=80)
@given(words=WORDS)
def test_a_generated_lab_is_that_of_the_file(words: str) -> None:
    made, read = generate(words), from_a_file(words)
    assert made == read
    assert compile_plan(made) == compile_plan(read)


@pytest.mark.parametrize(
    "words", ["single,254", "single,255", "single,1023", "single,1024", "tree,3,10", "fat-tree,10"]
)
def test_larger_ones_too(words: str) -> None:
    assert generate(words) == from_a_file(words)


def count(lab: ResolvedLab) -> Counter[str]:
    return Counter(node.kind for node in lab.nodes.values())


@given(depth=st.integers(1, 5), fanout=st.integers(1, 5))
def test_a_tree_is_that_of_mininet(depth: int, fanout: int) -> None:
    lab = generate(f"tree,{depth},{fanout}")
    assert count(lab) == {"host": fanout**depth, "switch": sum(fanout**level for level in range(depth))}
    assert len(lab.links) == len(lab.nodes) - 1
    assert list(lab.nodes)[:1] == ["h1"] and f"s{count(lab)['switch']}" in lab.nodes
    assert len(lab.segments) == 1


def test_switches_of_a_tree_are_numbered_on_the_way_down() -> None:
    lab = generate("tree,3,2")
    assert [port.name for port in lab.nodes["s1"].interfaces] == ["s2", "s5"]
    assert [port.name for port in lab.nodes["s2"].interfaces] == ["s1", "s3", "s4"]
    assert [port.name for port in lab.nodes["s3"].interfaces] == ["s2", "h1", "h2"]


def test_single_linear_and_ring() -> None:
    lab = generate("single,3")
    assert lab.name == "single-3" and [str(host.addresses[0]) for host in list(lab.nodes.values())[:3]] == [
        "10.0.0.1/24", "10.0.0.2/24", "10.0.0.3/24"
    ]  # fmt: skip
    lab = generate("linear,4")
    assert count(lab) == {"host": 4, "switch": 4} and len(lab.links) == 7
    assert not any(bridge.stp for node in lab.nodes.values() for bridge in node.bridges)
    lab = generate("ring,4")
    assert len(lab.links) == 8
    assert all(bridge.stp for node in lab.nodes.values() for bridge in node.bridges)


def test_more_hosts_than_a_switch_has_ports() -> None:
    lab = generate("single,5000")
    ports = {name: len(node.interfaces) for name, node in lab.nodes.items() if node.kind == "switch"}
    assert ports == {"s1": 5, "s2": 1001, "s3": 1001, "s4": 1001, "s5": 1001, "s6": 1001}
    assert len({interface.mac for interface in lab.interfaces()}) == 2 * len(lab.links)
    assert note("single,5000") == (
        "a switch has at most 1,023 ports: s1 joins s2 to s6, each with up to 1000 hosts"
    )  # fmt: skip
    assert note("single,1023") == ""


def way(lab: ResolvedLab, source: Node, target: IPv4Address) -> list[str]:
    """The nodes that a packet passes, by longest prefix."""
    passed = [source.name]
    node = source
    while all(address.ip != target for address in node.addresses):
        assert len(passed) < 10, passed
        near = [i for i in node.interfaces for a in i.addresses if target in a.network]
        if near:
            hop = target
        else:
            fits = [route for route in node.routes if route.to is None or target in route.to]
            hop = max(fits, key=lambda route: route.to.prefixlen if route.to else -1).via
        node = lab.nodes[lab.by_address[hop].node]
        passed.append(node.name)
    return passed


@pytest.mark.parametrize("ports", [2, 4, 6])
def test_a_fat_tree(ports: int) -> None:
    lab = generate(f"fat-tree,{ports}")
    half = ports // 2
    assert count(lab) == {"host": ports**3 // 4, "router": half**2 + 2 * ports * half}
    for name, node in lab.nodes.items():
        if node.kind == "router":
            cables = [interface for interface in node.interfaces if interface.peer]
            assert len(cables) == ports, name
    hosts = [node for node in lab.nodes.values() if node.kind == "host"]
    used: Counter[str] = Counter()
    for a in hosts:
        for b in hosts:
            if a is b:
                continue
            there, back = way(lab, a, b.addresses[0].ip), way(lab, b, a.addresses[0].ip)
            assert there == back[::-1], "reverse path filters want one way"
            assert len(there) in (2, 5, 7) and there[0] == a.name and there[-1] == b.name
            used.update(node for node in there if node.startswith("c"))
    assert set(used) == {f"c{number}" for number in range(1, half**2 + 1)}, "all core routers carry something"


def test_every_node_is_reached_by_cables() -> None:
    for words in ("single,2000", "tree,3,4", "linear,9", "ring,9", "fat-tree,4"):
        lab = generate(words)
        near: dict[str, list[str]] = {}
        for link in lab.links:
            near.setdefault(link.a.node, []).append(link.b.node)
            near.setdefault(link.b.node, []).append(link.a.node)
        seen, queue = {"h1"}, deque(["h1"])
        while queue:
            for other in near[queue.popleft()]:
                if other not in seen:
                    seen.add(other)
                    queue.append(other)
        assert seen == set(lab.nodes), words


@pytest.mark.parametrize(
    ("words", "said", "hint"),
    [
        ("", "no kind of topology ''", "single,HOSTS  tree,DEPTH,FANOUT"),
        ("singel,3", "no kind of topology 'singel'", "did you mean single,HOSTS?"),
        ("single", "'single' is not a topology", "expected single,HOSTS with whole numbers"),
        ("single,", "'single,' is not a topology", "expected single,HOSTS"),
        ("single,0", "'single,0': HOSTS is at least 1", "expected single,HOSTS"),
        ("single,-1", "'single,-1' is not a topology", "expected single,HOSTS"),
        ("single,1e3", "'single,1e3' is not a topology", "expected single,HOSTS"),
        ("single,²", "'single,²' is not a topology", "expected single,HOSTS"),
        ("single,1,2", "'single,1,2' is not a topology", "expected single,HOSTS"),
        ("single,70000", "'single,70000': a lab has at most 65,535 nodes", None),
        ("single,99999999999999", "'single,99999999999999' is not a topology", "expected single,HOSTS"),
        ("tree,3", "'tree,3' is not a topology", "expected tree,DEPTH,FANOUT"),
        ("tree,9,9", "'tree,9,9': a lab has at most 65,535 nodes", None),
        ("tree,60000,60000", "'tree,60000,60000': a lab has at most 65,535 nodes", None),
        ("tree,1,1024", "'tree,1,1024': a switch has at most 1,023 ports, its uplink among them", None),
        ("tree,0,3", "'tree,0,3': DEPTH is at least 1", "expected tree,DEPTH,FANOUT"),
        ("ring,2", "'ring,2': SWITCHES is at least 3", "expected ring,SWITCHES"),
        ("fat-tree,3", "'fat-tree,3': PORTS is an even number", "expected fat-tree,PORTS"),
        (
            "fat-tree,34",
            "'fat-tree,34': each of its edge routers has a route to each other one, which would be too many",
            "the largest is fat-tree,32",
        ),
        (
            "ring,101",
            "'ring,101': in a larger ring frames would go round before its spanning tree is found",
            "the largest is ring,100",
        ),
        ("linear,40000", "'linear,40000': a lab has at most 65,535 nodes", None),
    ],
)
def test_wrong_words(words: str, said: str, hint: str | None) -> None:
    with pytest.raises(UsageError) as caught:
        parse_words(words)
    assert caught.value.message == said and caught.value.exit_status == 2
    assert (caught.value.hint is None) if hint is None else (hint in str(caught.value.hint))


@given(
    kind=st.sampled_from(sorted(KINDS)) | st.text(alphabet="single,tre-fatring", max_size=12),
    numbers=st.lists(st.integers(-2, 12) | st.integers(0, 10**10), max_size=3),
    end=st.sampled_from(["", "", "", ",", " ", "²", "\n"]),
)
def test_any_words_are_understood_or_refused(kind: str, numbers: list[int], end: str) -> None:
    """Also what would be a lab of a billion hosts, of which nothing is drawn."""
    text = ",".join((kind, *map(str, numbers))) + end
    try:
        shape = parse_words(text)
    except UsageError as refused:
        assert refused.exit_status == 2
    else:
        assert shape.words == text
        known = KINDS[shape.kind]
        assert known.nodes(*shape.numbers) <= NODES_MAX
        assert "\n" not in note(text)


@given(WORDS)
def test_small_numbers_are_understood(text: str) -> None:
    assert parse_words(text).words == text


def test_a_generated_lab_imports_no_model() -> None:
    """Reading a lab file takes the model's library, whose import alone takes longer than building a hundred hosts."""
    code = (
        "import sys\nfrom emulator.lab.generate import generate\nfrom emulator.plan.compile import compile_plan\n"
        "compile_plan(generate('tree,2,3'))\nprint(*sorted({'pydantic', 'yaml', 'scapy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
