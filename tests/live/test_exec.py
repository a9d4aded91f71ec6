"""`wirelab exec` on several nodes at once, and what is left when it is ended."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator

import pytest

from tests.conftest import Person
from tests.live.conftest import processes, wait_until

NODES = ["a", "b", "c", "d", "sw"]


def write_lab(person: Person, name: str, hosts: list[str]) -> str:
    """A lab file of hosts on one switch; its path."""
    file = person.home / f"{name}.yml"
    nodes = "".join(f"  {host}: {{}}\n" for host in hosts)
    links = "".join(f"  - [{host}, sw]\n" for host in hosts)
    file.write_text(f"name: {name}\nnodes:\n{nodes}  sw: {{kind: switch}}\nlinks:\n{links}")
    file.chmod(0o644)
    return str(file)


@pytest.fixture
def lab(person: Person, lab_name: str, nothing_left: Callable[[], None]) -> Iterator[str]:
    """A running lab of four hosts and a switch."""
    person.wirelab("up", write_lab(person, lab_name, NODES[:-1]))
    yield lab_name
    person.wirelab("down", lab_name)


def test_each_line_says_whose_it_is(person: Person, lab: str) -> None:
    done = person.wirelab("exec", lab, "--all", "--", "sh", "-c", "hostname; echo no end of line here >&2; printf end")
    assert sorted(done.stdout.splitlines()) == sorted(
        line for node in NODES for line in (f"{node}: {node}", f"{node}: end")
    )
    assert sorted(done.stderr.splitlines()) == [f"{node}: no end of line here" for node in NODES]


def test_some_nodes_by_name_and_by_pattern(person: Person, lab: str) -> None:
    assert sorted(person.wirelab("exec", lab, "b,a", "--", "hostname").stdout.split()) == ["a", "a:", "b", "b:"]
    fitting = person.wirelab("exec", lab, "[bc],sw,b", "--", "hostname").stdout.splitlines()
    assert sorted(fitting) == ["b: b", "c: c", "sw: sw"]


def test_a_node_that_fails_is_named(person: Person, lab: str) -> None:
    words = ("sh", "-c", "hostname; test $(hostname) != c")
    done = person.wirelab("exec", lab, "--all", "--", *words, status=1)
    assert done.stderr.splitlines() == ["wirelab: sh failed on 1 of 5 nodes: c: status 1"]
    assert len(done.stdout.splitlines()) == 5, "the others are not held up"
    assert person.wirelab("exec", lab, "a,b", "--", *words).stderr == "", "without c nothing fails"
    killed = person.wirelab("exec", lab, "c,d", "--", "sh", "-c", "kill -9 $$", status=1)
    assert "2 of 2 nodes: c, d: status 137" in killed.stderr


def test_wrong_usage_and_missing_programs(person: Person, lab: str) -> None:
    unknown = person.wirelab("exec", lab, "a,bb", "--", "hostname", status=2)
    assert "there is no node bb" in unknown.stderr
    assert "did you mean b?" in unknown.stderr
    assert unknown.stdout == "", "nothing was run"
    assert "no node's name fits x*" in person.wirelab("exec", lab, "x*", "--", "true", status=2).stderr
    assert "has no node aa" in person.wirelab("exec", lab, "aa", "--", "true", status=2).stderr
    assert "which command?" in person.wirelab("exec", lab, "--all", status=2).stderr
    assert "on which node?" in person.wirelab("exec", lab, "--", "true", status=2).stderr
    assert "no NODE goes with it" in person.wirelab("exec", lab, "a", "--all", "--", "true", status=2).stderr
    assert "there is no program nosuch" in person.wirelab("exec", lab, "--all", "--", "nosuch", status=3).stderr
    assert "there is no program nosuch" in person.wirelab("exec", lab, "a", "--", "nosuch", status=3).stderr


def test_json_has_status_and_output_of_each(person: Person, lab: str) -> None:
    script = 'hostname; echo problem >&2; test "$(hostname)" != b'
    answer = json.loads(person.wirelab("exec", lab, "--all", "--json", "--", "sh", "-c", script, status=1).stdout)
    assert [part["node"] for part in answer["nodes"]] == NODES
    assert {part["node"]: part["status"] for part in answer["nodes"]} == {node: int(node == "b") for node in NODES}
    assert all(part["stdout"] == f"{part['node']}\n" and part["stderr"] == "problem\n" for part in answer["nodes"])
    assert not any(part["truncated"] for part in answer["nodes"])
    one = json.loads(person.wirelab("exec", lab, "a", "--json", "--", "hostname").stdout)
    assert [part["stdout"] for part in one["nodes"]] == ["a\n"]
    missing = json.loads(person.wirelab("exec", lab, "a", "--json", "--", "/etc", status=1).stdout)
    assert missing["nodes"][0]["status"] is None
    assert "Permission denied" in missing["nodes"][0]["error"]


def test_much_output_is_bounded_and_lines_stay_whole(person: Person, lab: str) -> None:
    """Every node writes its lines in two pieces each; one writes a line that does not end for a long time."""
    script = (
        "import os, sys\nname = os.uname().nodename\n"
        "for number in range(500):\n"
        "    os.write(1, f'{name}-{number}-'.encode())\n    os.write(1, b'x' * 100 + b'\\n')\n"
    )
    lines = person.wirelab("exec", lab, "--all", "--", "python3", "-c", script).stdout.splitlines()
    assert sorted(lines) == sorted(f"{node}: {node}-{number}-{'x' * 100}" for node in NODES for number in range(500))
    long = person.wirelab("exec", lab, "a,b", "--", "python3", "-c", "print('y' * 200_000)").stdout.splitlines()
    pieces = [line.removeprefix("a: ") for line in long if line.startswith("a: ")]
    assert "".join(pieces) == "y" * 200_000
    assert max(map(len, pieces)) <= 2 * 65536, "no line is held for long"
    big = "import os\nfor _ in range(400): os.write(1, b'z' * 100_000)"
    answer = json.loads(person.wirelab("exec", lab, "a,b", "--json", "--", "python3", "-c", big).stdout)
    assert [len(part["stdout"]) for part in answer["nodes"]] == [16 << 20, 16 << 20]
    assert all(part["truncated"] for part in answer["nodes"])


def test_standard_input_is_empty(person: Person, lab: str) -> None:
    done = person.wirelab("exec", lab, "--all", "--", "cat", stdin=subprocess.PIPE)
    assert done.stdout == ""


def test_a_time_limit(person: Person, lab: str) -> None:
    done = person.wirelab("exec", lab, "a,b", "--timeout", "0.3", "--", "sleep", "600", status=1)
    assert "a, b: took too long" in done.stderr
    assert person.wirelab("exec", lab, "a,b", "--timeout", "60", "--", "true").stderr == ""


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_all(person: Person, lab: str, number: int, status: int) -> None:
    """Also what does not want to end, and the children of the commands."""
    mark = f"{600 + os.getpid() / 1e7:.7f}"
    stubborn = "test $(hostname) != a || trap '' INT TERM"
    script = f"{stubborn}; trap 'echo bye; exit' INT; sleep {mark} & sleep {mark}; sleep {mark}"
    process = person.popen(
        person.argv("exec", lab, "--all", "--", "sh", "-c", script),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    wait_until(lambda: len(sleepers(mark)) == 2 * len(NODES), "every command sleeps")
    began = time.monotonic()
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode == status
    assert time.monotonic() - began < 20
    wait_until(lambda: not sleepers(mark), "no command is left")


def sleepers(mark: str) -> list[int]:
    """Processes `sleep MARK` of this machine."""
    return [pid for pid, line in processes(mark).items() if line.startswith("sleep")]


API = """
import sys
import emulator
with emulator.up(sys.argv[1], name=sys.argv[2]) as lab:
    everywhere = lab.run_all(["hostname"])
    print({node: result.stdout.strip() for node, result in everywhere.items()})
    some = lab.run_all(["sh", "-c", "cat; test $(hostname) = a"], nodes=["b", "a"], stdin="x")
    print([(node, result.status, result.stdout) for node, result in some.items()])
    try:
        lab.run_all(["true"], nodes=["a", "bb"])
    except KeyError as error:
        print(error)
"""


def test_from_python(person: Person, lab_name: str, nothing_left: Callable[[], None]) -> None:
    done = person.run([person.python, "-c", API, write_lab(person, lab_name, NODES[:-1]), lab_name])
    assert done.stdout.splitlines() == [
        str({node: node for node in NODES}),
        "[('b', 1, 'x'), ('a', 0, 'x')]",
        "'bb'",
    ], done.stderr


def test_when_it_is_killed_its_commands_end_too(person: Person, lab: str) -> None:
    mark = f"{700 + os.getpid() / 1e7:.7f}"
    process = person.popen(person.argv("exec", lab, "--all", "--", "sleep", mark), start_new_session=True)
    wait_until(lambda: len(sleepers(mark)) == len(NODES), "every command sleeps")
    process.kill()
    process.wait()
    wait_until(lambda: not sleepers(mark), "no command is left")


def test_whoever_reads_may_go(person: Person, lab: str) -> None:
    mark = f"{os.getpid():07}"
    words = " ".join(person.argv("exec", lab, "--all", "--"))
    done = person.run(["bash", "-c", f"{words} sh -c 'while echo x; do sleep 0.2{mark}; done' | head -n 1"], timeout=60)
    assert re.fullmatch(r"\w+: x\n", done.stdout)
    wait_until(lambda: not sleepers(mark), "no command is left")


def test_a_hundred_at_the_same_time(user: Person, lab_name: str, nothing_left: Callable[[], None]) -> None:
    """All hundred run before the first ends; more files are open than this process usually may have, and the commands
    have the limit that the caller has."""
    hosts = [f"h{number}" for number in range(1, 101)]
    user.wirelab("up", write_lab(user, lab_name, hosts))
    command = user.argv("exec", lab_name, "h*", "--", "sh", "-c", "ulimit -Sn; exec sleep 600")
    process = user.popen(
        ["sh", "-c", 'ulimit -Sn 128; exec "$@"', "sh", *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout is not None
    said = [process.stdout.readline() for _ in hosts]
    assert sorted(said) == sorted(f"{host}: 128\n" for host in hosts)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=60)[0] == ""
    assert process.returncode == 130
    user.wirelab("down", lab_name)


def test_an_agent_that_nobody_listens_to_ends_quietly(person: Person, lab: str) -> None:
    """What `kill -9` of a command leaves: commands that run, and an answer that comes a moment before the end."""
    mark = f"{random.randrange(10**6, 10**7)}.5"
    program = "import sys; from emulator.run.agent import main; sys.exit(main(sys.argv[1:]))"
    agent = person.popen(
        [person.python, "-c", program, str(person.runs / lab)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert agent.stdin and agent.stdout and agent.stderr
    assert json.loads(agent.stdout.readline()) == {"ready": True}
    agent.stdout.close()
    jobs = (["sleep", mark], ["/no/such/program"], ["true"])
    for number, argv in enumerate(jobs):
        agent.stdin.write(f"{json.dumps({'id': number, 'node': 'a', 'argv': argv, 'timeout_s': 60})}\n")
    agent.stdin.flush()
    with agent.stderr, agent.stdin:
        said = agent.stderr.read()
        assert (agent.wait(20), said) == (0, "")
    assert not processes(mark)
