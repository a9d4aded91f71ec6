"""Operations as data, as words, as shell, and what takes them back."""

from __future__ import annotations

import json
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emulator.plan import ops
from emulator.plan.containers import CreateContainer

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)
WORDS = st.lists(TEXT, min_size=1, max_size=4).map(tuple)
NAME = st.from_regex(r"[a-z][a-z0-9-]{0,10}[a-z0-9]", fullmatch=True)
PORT = st.integers(1, 65535)
ENVIRONMENT = st.dictionaries(st.from_regex(r"[A-Z_]{1,5}", fullmatch=True), TEXT, max_size=2)
MAC = st.just("02:57:4c:00:01:00")
CONDITIONS = st.builds(
    ops.Condition,
    st.sampled_from(["dns", "tcp", "tcp-port", "udp-port", "file", "stp"]),
    st.just("192.0.2.1"),
    PORT,
    st.just("/run/x y"),
) | st.builds(ops.Condition, st.just("ipv6"), path=st.sampled_from(["", "eth0", "eth0 eth1"]))

OPERATIONS: dict[str, st.SearchStrategy[Any]] = {
    "CreateNode": st.builds(ops.CreateNode, NAME, ipv6=st.booleans(), forwards=st.booleans()),
    "RemoveNode": st.builds(ops.RemoveNode, NAME),
    "CreateBridge": st.builds(ops.CreateBridge, NAME, NAME, st.none() | MAC, st.integers(0, 300), st.booleans()),
    "CreateLink": st.builds(
        ops.CreateLink,
        NAME,
        NAME,
        MAC,
        NAME,
        NAME,
        MAC,
        st.integers(68, 65535),
        st.booleans(),
        st.just("") | NAME,
        st.just("") | NAME,
    ),
    "LimitRate": st.builds(ops.LimitRate, NAME, NAME, st.integers(8_000, 10**11), st.integers(1500, 10**6)),
    "CreateContainer": st.builds(
        CreateContainer,
        NAME,
        st.booleans(),
        st.booleans(),
        image=NAME,
        cmd=st.none() | WORDS,
        user=st.just("") | NAME,
        cpus=st.none() | st.sampled_from([0.5, 2.0]),
        memory_bytes=st.none() | st.integers(6 << 20, 1 << 40),
        mounts=st.lists(TEXT.map(lambda text: f"{text}:/srv/x:ro"), max_size=2).map(tuple),
        in_memory=st.sampled_from([(), ("/run",)]),
        env=ENVIRONMENT,
    ),
    "RemoveLink": st.builds(ops.RemoveLink, NAME, NAME),
    "AddAddress": st.builds(ops.AddAddress, NAME, NAME, st.sampled_from(["192.0.2.1/24", "2001:db8::1/64"])),
    "SetUp": st.builds(ops.SetUp, NAME, NAME),
    "AddRoute": st.builds(ops.AddRoute, NAME, st.sampled_from(["default", "192.0.2.0/24"]), st.just("10.0.0.1"), NAME),
    "SetSysctl": st.builds(ops.SetSysctl, NAME, st.just("net.ipv4.ip_default_ttl"), TEXT),
    "LoadRules": st.builds(ops.LoadRules, NAME, st.just("*filter\n-A INPUT -j DROP\nCOMMIT\n")),
    "WriteFile": st.builds(ops.WriteFile, NAME, st.just("/etc/it's"), TEXT, st.sampled_from([0o644, 0o755])),
    "Prepare": st.builds(
        ops.Prepare,
        NAME,
        st.just("make a key"),
        st.sampled_from(["echo a >b", "x=$(cat 'it''s')\n"]),
        st.dictionaries(st.just("it's.zone") | NAME, TEXT, max_size=2),
    ),
    "PutFile": st.builds(ops.PutFile, NAME, st.just("/run/it's"), NAME, st.sampled_from([0o644, 0o600])),
    "BindPath": st.builds(ops.BindPath, NAME, TEXT, st.just("/opt/it's"), st.booleans()),
    "StartProcess": st.builds(ops.StartProcess, NAME, NAME, WORDS, ENVIRONMENT),
    "WaitUntil": st.builds(ops.WaitUntil, NAME, st.just("") | NAME, CONDITIONS),
    "RunCommand": st.builds(ops.RunCommand, NAME, WORDS, ENVIRONMENT),
}


def test_every_operation_is_tried_here() -> None:
    assert set(OPERATIONS) == set(ops.Operation.registry)


@pytest.mark.parametrize("kind", sorted(OPERATIONS))
@given(data=st.data())
def test_data_and_back(kind: str, data: st.DataObject) -> None:
    operation = data.draw(OPERATIONS[kind])
    text = json.dumps(operation.to_json())
    assert ops.from_json(json.loads(text)) == operation
    assert type(ops.from_json(json.loads(text))) is type(operation)
    row = json.dumps(ops.to_row(operation))
    assert ops.from_row(json.loads(row)) == operation
    assert type(ops.from_row(json.loads(row))) is type(operation)


@pytest.mark.parametrize("kind", sorted(OPERATIONS))
@settings(max_examples=8)
@given(data=st.data())
def test_words_and_shell(kind: str, data: st.DataObject) -> None:
    operation = data.draw(OPERATIONS[kind])
    assert operation.describe().strip()
    assert operation.shell().strip()
    subprocess.run(["sh", "-n"], input=operation.shell().encode(), check=True)


@given(data=st.data())
def test_what_takes_it_back(data: st.DataObject) -> None:
    node = data.draw(OPERATIONS["CreateNode"])
    assert node.undo() == ops.RemoveNode(node.node)
    link = data.draw(OPERATIONS["CreateLink"])
    assert link.undo() == ops.RemoveLink(link.node, link.interface)
    container = data.draw(OPERATIONS["CreateContainer"])
    assert container.undo() == ops.RemoveNode(container.node)
    for kind in set(OPERATIONS) - {"CreateNode", "CreateContainer", "CreateLink"}:
        assert data.draw(OPERATIONS[kind]).undo() is None


@settings(max_examples=25)
@given(content=TEXT)
def test_a_file_is_written_octet_by_octet(content: str) -> None:
    script = f"put() {{ cat; }}\n{ops.WriteFile('pc', '/x', content).shell()}\n"
    done = subprocess.run(["sh"], input=script.encode(), capture_output=True, check=True)
    assert done.stdout == content.encode() and done.stderr == b""


@pytest.mark.parametrize("content", ["END\n", "a\nEND\nEND_\n", "$(id) `id` \\ '\n", "no line end", "", "\n"])
def test_nothing_in_a_file_ends_it_early(content: str) -> None:
    script = f"put() {{ cat; }}\n{ops.WriteFile('pc', '/x', content).shell()}\n"
    assert subprocess.run(["sh"], input=script.encode(), capture_output=True, check=True).stdout == content.encode()


@settings(max_examples=25)
@given(content=TEXT)
def test_a_workshop_by_hand(tmp_path_factory: pytest.TempPathFactory, content: str) -> None:
    lab = tmp_path_factory.mktemp("lab")
    first = ops.Prepare("pc", "make b", "cat 'it'\\''s' >b\necho more >>b\n", {"it's": content})
    second = ops.PutFile("pc", "/run/deep/b", "b", 0o600)
    put = 'put() { mkdir -p "$(dirname "$lab/$1$2")"; cat >"$lab/$1$2"; chmod "$3" "$lab/$1$2"; }'
    script = f"set -eu\nlab={lab}\n{put}\n{first.shell()}\n{second.shell()}\n"
    done = subprocess.run(["sh"], input=script.encode(), capture_output=True, check=True)
    wanted = content if content.endswith("\n") else f"{content}\n"
    assert (done.stdout, done.stderr) == (b"", b"")
    assert (lab / "pc/run/deep/b").read_bytes() == f"{wanted}more\n".encode()
    assert (lab / "pc/run/deep/b").stat().st_mode & 0o777 == 0o600


def test_a_workshop_by_hand_ends_the_script_when_something_fails(tmp_path: Path) -> None:
    failing = ops.Prepare("pc", "fail", "false\necho on").shell()
    script = f"set -eu\nlab={tmp_path}\n{failing}\necho after\n"
    done = subprocess.run(["sh"], input=script.encode(), capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (1, b"")


@settings(max_examples=25)
@given(argv=WORDS)
def test_words_of_a_command_stay_words(argv: tuple[str, ...]) -> None:
    shell = ops.RunCommand("pc", argv, {"A": "$(id) b"}).shell()
    assert shlex.split(shell) == ["in_node", "pc", "env", "A=$(id) b", *argv]


@pytest.mark.parametrize("name", ["type", "up", "peer", "dev", "help"])
def test_interfaces_may_be_called_like_words_of_ip(name: str) -> None:
    link = ops.CreateLink("sw", name, "02:57:4c:00:01:00", "pc", name, "02:57:4c:00:02:00", bridge="br0")
    assert link.shell().startswith(f"ip link add name {name} netns sw ")
    assert f"link set dev {name} master br0" in link.shell()
    assert ops.SetUp("sw", name).shell() == f"ip -n sw link set dev {name} up"
