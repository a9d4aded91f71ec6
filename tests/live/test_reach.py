"""All pairs of hosts by real packets, and the truth of each verdict: cables, packet filters, routers, ARP."""

from __future__ import annotations

import fcntl
import json
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Person
from tests.live.conftest import processes, wait_until

pytestmark = pytest.mark.warm

ROUTED = """
name: routed
nodes:
  a1: {}
  a2: {}
  b1: {}
  c1: {}
  sa: {kind: switch}
  sb: {kind: switch}
  sc: {kind: switch}
  r1: {kind: router}
  home: {kind: router, nat: {masquerade: wan}}
links:
  - [a1, sa]
  - [a2, sa]
  - [sa, "r1:a"]
  - [b1, sb]
  - [sb, "r1:b"]
  - [sb, "home:wan"]
  - ["home:lan", sc]
  - [c1, sc]
"""


def chained(hosts: int, switches: int = 1) -> str:
    """A lab file: `hosts` hosts spread over `switches` switches in a row."""
    nodes = {f"h{number}": {} for number in range(1, hosts + 1)} | {
        f"s{number}": {"kind": "switch"} for number in range(switches)
    }
    links = [[f"s{number}", f"s{number + 1}"] for number in range(switches - 1)]
    links += [[f"h{number}", f"s{number % switches}"] for number in range(1, hosts + 1)]
    return json.dumps({"name": "many", "nodes": nodes, "links": links})


@contextmanager
def running(person: Person, name: str, text: str) -> Iterator[None]:
    """A lab of `person` that runs under `name`."""
    file = person.home / f"{name}.yml"
    file.write_text(text)
    file.chmod(0o644)
    person.wirelab("up", str(file), "--name", name)
    try:
        yield
    finally:
        person.wirelab("down", name, status=None)
        file.unlink()


def verify(person: Person, name: str, status: int, *words: str) -> dict[str, Any]:
    data: dict[str, Any] = person.json("verify", name, *words, status=status)
    return data


def lost(data: dict[str, Any]) -> set[tuple[str, str]]:
    """The pairs that did not answer, of those that were asked."""
    nodes = data["nodes"]
    return {
        (nodes[a], nodes[b]) for a, row in enumerate(data["reachable"]) for b, sign in enumerate(row) if sign == "0"
    }


def row(data: dict[str, Any], node: str) -> set[tuple[str, str]]:
    return {(node, other) for other in data["nodes"] if other != node}


def column(data: dict[str, Any], node: str) -> set[tuple[str, str]]:
    return {(other, node) for other in data["nodes"] if other != node}


def neighbours(person: Person, name: str, *nodes: str) -> list[str]:
    """The neighbour tables of nodes; of entries that are not permanent without their state, which time changes."""
    texts = [person.wirelab("exec", name, node, "--", "ip", "neighbour").stdout for node in nodes]
    lines = [line.rstrip() for text in texts for line in sorted(text.splitlines())]
    return [line if line.endswith("PERMANENT") else line.rpartition(" ")[0] for line in lines]


def overflows() -> tuple[int, int]:
    """How often the kernel had to look for entries to drop, and how often it found none (linux/neighbour.h)."""
    heads, *lines = Path("/proc/net/stat/arp_cache").read_text().splitlines()
    place = [heads.split().index(word) for word in ("forced_gc_runs", "table_fulls")]
    sums = [sum(int(line.split()[column], 16) for line in lines) for column in place]
    return sums[0], sums[1]


def test_ten_hosts_on_three_switches(person: Person, lab_name: str, nothing_left: Callable[[], None]) -> None:
    """A lab without checks has its pairs tested. A pulled cable loses the host's row and column, and nothing else."""
    with running(person, lab_name, chained(10, 3)):
        whole = verify(person, lab_name, 0)
        assert (whole["pairs"], whole["lost"], lost(whole)) == (90, 0, set())
        assert whole["checks"][0]["reason"] == "90 of 90 pairs of 10 hosts answered"
        person.wirelab("link", lab_name, "h7:eth0", "down")
        cut = verify(person, lab_name, 1)
        assert lost(cut) == row(cut, "h7") | column(cut, "h7")
        said = person.wirelab("verify", lab_name, status=1).stdout
        assert "nobody reaches h7, and it reaches nobody (18 pairs)" in said
        person.wirelab("link", lab_name, "h7:eth0", "up")
        person.wirelab("link", lab_name, "s0:s1", "down")
        halves = verify(person, lab_name, 1)
        alone = {"h3", "h6", "h9"}
        assert lost(halves) == {
            (a, b) for a in halves["nodes"] for b in halves["nodes"] if (a in alone) != (b in alone)
        }
        person.wirelab("link", lab_name, "s0:s1", "up")
        assert verify(person, lab_name, 0)["lost"] == 0
    nothing_left()


@pytest.mark.parametrize("hosts", [8, 24], ids=["own-arp", "pinned"])
def test_one_way_failures(person: Person, lab_name: str, hosts: int) -> None:
    """A packet filter counts in the row or in the column: requests are the sender's own, and so are the replies."""
    with running(person, lab_name, chained(hosts)):
        drop = ("exec", lab_name, "h3", "--", "iptables")
        rule = ("-p", "icmp", "--icmp-type", "echo-request", "-j", "DROP")
        person.wirelab(*drop, "-A", "INPUT", *rule)
        deaf = verify(person, lab_name, 1)
        assert lost(deaf) == column(deaf, "h3")
        person.wirelab(*drop, "-F")
        person.wirelab(*drop, "-A", "OUTPUT", *rule)
        dumb = verify(person, lab_name, 1)
        assert lost(dumb) == row(dumb, "h3")
        person.wirelab(*drop, "-F")
        person.wirelab(*drop, "-A", "INPUT", "-s", "10.0.0.5", "-j", "DROP")
        apart = verify(person, lab_name, 1)
        assert lost(apart) == {("h5", "h3"), ("h3", "h5")}
        person.wirelab(*drop, "-F")
        person.wirelab("exec", lab_name, "h3", "--", "ip", "route", "flush", "dev", "eth0")
        lost_way = verify(person, lab_name, 1)
        assert lost(lost_way) == row(lost_way, "h3") | column(lost_way, "h3")


def test_hosts_that_do_not_answer_arp(user: Person, lab_name: str) -> None:
    """Where entries are pinned, a host that nobody could find without them is found out all the same."""
    with running(user, lab_name, chained(24)):
        user.wirelab("exec", lab_name, "h3", "--", "sysctl", "-q", "-w", "net.ipv4.conf.eth0.arp_ignore=8")
        data = verify(user, lab_name, 1)
        assert lost(data) == column(data, "h3")
        before = neighbours(user, lab_name, "h3", "h4", "h5")
        assert [line for line in before if "proto" in line or "PERMANENT" in line] == []


def test_arp_that_dies_between_switches(user: Person, lab_name: str) -> None:
    """Nine hosts here and nine there: the switch passes no frame to all on to the other one, so those on its side find
    nobody on the other; everything else works, and so does what was sent to one host alone."""
    nodes = {f"h{number}": {} for number in range(1, 19)} | {name: {"kind": "switch"} for name in ("s0", "s1")}
    links = [["s0", "s1"], *([f"h{number}", f"s{number // 10}"] for number in range(1, 19))]
    with running(user, lab_name, json.dumps({"name": "two", "nodes": nodes, "links": links})):
        assert verify(user, lab_name, 0)["pairs"] == 18 * 17
        user.wirelab("exec", lab_name, "s0", "--", "bridge", "link", "set", "dev", "s1", "bcast_flood", "off")
        here, there = ([f"h{number}" for number in some] for some in (range(1, 10), range(10, 19)))
        assert lost(verify(user, lab_name, 1)) == {(a, b) for a in here for b in there}


def test_arp_that_dies_at_a_router(user: Person, lab_name: str) -> None:
    """A router that answers no question on one of its cables is not found there: hosts behind it reach no other subnet.
    It still asks itself, so they are reached."""
    sides = {"a": range(1, 13), "b": range(13, 25)}
    nodes = {f"h{number}": {} for side in sides.values() for number in side} | {"r": {"kind": "router"}}
    nodes |= {f"s{side}": {"kind": "switch"} for side in sides}
    links = [[f"s{side}", f"r:{side}"] for side in sides]
    links += [[f"h{number}", f"s{side}"] for side, numbers in sides.items() for number in numbers]
    with running(user, lab_name, json.dumps({"name": "routed", "nodes": nodes, "links": links})):
        assert verify(user, lab_name, 0)["pairs"] == 552
        user.wirelab("exec", lab_name, "r", "--", "sysctl", "-q", "-w", "net.ipv4.conf.b.arp_ignore=8")
        silent = verify(user, lab_name, 1)
        assert lost(silent) == {(f"h{b}", f"h{a}") for a in sides["a"] for b in sides["b"]}
        before = neighbours(user, lab_name, "r", "h1", "h13")
        assert before == [], "no entry is left"


def test_an_address_that_has_moved(user: Person, lab_name: str) -> None:
    """Who took another host's address answers in its place, and that does not count."""
    with running(user, lab_name, chained(6)):
        user.wirelab("exec", lab_name, "h5", "--", "ip", "address", "del", "10.0.0.5/24", "dev", "eth0")
        user.wirelab("exec", lab_name, "h3", "--", "ip", "address", "add", "10.0.0.5/24", "dev", "eth0")
        data = verify(user, lab_name, 1)
        assert lost(data) == row(data, "h5") | column(data, "h5")


def test_a_lab_that_goes_down_is_not_proved(user: Person, lab_name: str) -> None:
    with running(user, lab_name, chained(200)):
        process = user.popen(user.argv("verify", lab_name), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        workers = _stopped_with_pins(user, lab_name)
        down = user.popen(user.argv("down", lab_name), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_until(lambda: not (user.runs / lab_name / "ctl").exists() or down.poll() is not None, "it goes down")
        _signal(user, "CONT", workers)
        _, said = process.communicate(timeout=60)
        assert process.returncode == 1
        assert f"the lab {lab_name} has ended" in said
        assert down.wait(60) == 0


def test_routers_and_translation(person: Person, lab_name: str) -> None:
    """What is behind translation is not promised to those outside, and is not lost."""
    with running(person, lab_name, ROUTED):
        data = verify(person, lab_name, 0)
        assert dict(zip(data["nodes"], data["promised"], strict=True)) == {
            "a1": "-110", "a2": "1-10", "b1": "11-0", "c1": "111-",
        }  # fmt: skip
        assert data["reachable"] == data["promised"]
        assert data["pairs"] == 9
        person.wirelab("exec", lab_name, "r1", "--", "sysctl", "-q", "-w", "net.ipv4.ip_forward=0")
        split = verify(person, lab_name, 1)
        inside = {"a1", "a2"}
        promised = {(a, b) for a in data["nodes"] for b in data["nodes"] if b not in {a, "c1"}}
        assert lost(split) - column(data, "c1") == {(a, b) for a, b in promised if (a in inside) != (b in inside)}


def test_ipv6_alone_and_beside(user: Person, lab_name: str) -> None:
    nodes = {"a": "2001:db8::1/64", "b": "2001:db8::2/64", "c": "2001:db8::3/64"}
    lab = {
        "name": "six",
        "nodes": {
            **{name: {"interfaces": {"eth0": address}} for name, address in nodes.items()},
            "sw": {"kind": "switch"},
        },
        "links": [[f"{name}:eth0", "sw"] for name in nodes],
    }
    with running(user, lab_name, json.dumps(lab)):
        assert verify(user, lab_name, 0)["reachable"] == ["-11", "1-1", "11-"]
        user.wirelab("link", lab_name, "b:eth0", "down")
        assert verify(user, lab_name, 1)["reachable"] == ["-01", "0-0", "10-"]
        assert verify(user, lab_name, 1, "--pairs", "--ip", "4")["pairs"] == 0


def test_hundred_hosts_leave_the_neighbour_tables_alone(person: Person, lab_name: str) -> None:
    """9,900 pairs need 9,900 entries: none overflows a table of 1,024, and none is there afterwards. Entries that the
    lab has, right or wrong, are left and used."""
    with running(person, lab_name, chained(100, 3)):
        give = ("exec", lab_name, "h1", "--", "ip", "neighbour", "add")
        person.wirelab(*give, "10.0.0.2", "lladdr", "02:57:4c:ff:ff:ff", "nud", "permanent", "dev", "eth0")
        person.wirelab("exec", lab_name, "h50", "--", "ping", "-c1", "-W5", "10.0.0.51")
        tables = ("h1", "h2", "h49", "h50", "h51", "h100")
        before, full = neighbours(person, lab_name, *tables), overflows()
        assert len(before) == 3
        data = verify(person, lab_name, 1)
        assert overflows() == full
        assert lost(data) == {("h1", "h2"), ("h2", "h1")}, "the wrong entry is the lab's own, so this is the truth"
        assert neighbours(person, lab_name, *tables) == before
        person.wirelab("exec", lab_name, "h1", "--", "ip", "neighbour", "flush", "nud", "permanent")
        again = verify(person, lab_name, 0)
        assert (again["pairs"], again["lost"]) == (9_900, 0)
        person.wirelab("link", lab_name, "h7:eth0", "down")
        cut = verify(person, lab_name, 1)
        assert lost(cut) == row(cut, "h7") | column(cut, "h7")


def test_a_killed_test_leaves_nothing_that_the_next_does_not_remove(user: Person, lab_name: str) -> None:
    with running(user, lab_name, chained(200)):
        process = user.popen(user.argv("verify", lab_name), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        workers = _stopped_with_pins(user, lab_name)
        process.send_signal(signal.SIGKILL)
        process.wait(10)
        _signal(user, "CONT", workers)
        wait_until(lambda: _pinned(user, lab_name) == 0, "the workers have removed what they made")


def test_killed_workers_leave_entries_that_the_next_test_removes(user: Person, lab_name: str) -> None:
    with running(user, lab_name, chained(200)):
        process = user.popen(user.argv("verify", lab_name), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        _signal(user, "KILL", _stopped_with_pins(user, lab_name))
        _, said = process.communicate(timeout=60)
        assert process.returncode == 1
        assert "the pairs cannot be tested" in said
        assert _pinned(user, lab_name) > 0
        assert verify(user, lab_name, 0)["lost"] == 0
        assert _pinned(user, lab_name) == 0


def _signal(person: Person, name: str, pids: list[int]) -> None:
    person.run(["/bin/sh", "-c", f"kill -{name} {' '.join(map(str, pids))}"])


def _stopped_with_pins(person: Person, name: str) -> list[int]:
    """The workers of a pairs test, stopped (SIGSTOP) in a moment when they have pinned entries."""
    found: list[int] = []

    def stopped() -> bool:
        found[:] = [pid for pid, words in processes(f" {person.runs / name}").items() if "reach.worker" in words]
        if not found:
            return False
        _signal(person, "STOP", found)
        if _pinned(person, name) > 0:
            return True
        _signal(person, "CONT", found)
        return False

    wait_until(stopped, "entries are pinned", 60)
    return found


def _pinned(person: Person, name: str) -> int:
    said = [person.wirelab("exec", name, node, "--", "ip", "neighbour").stdout for node in ("h1", "h2", "h150")]
    return sum(text.count("PERMANENT") for text in said)


def test_a_lab_that_promises_no_pair_proves_nothing(user: Person) -> None:
    said = user.wirelab("verify", "ping", "--pairs", "--ip", "6", status=1).stdout
    assert "UNKNOWN  pairs  nothing was proved" in said


def test_two_tests_of_one_lab_at_once(user: Person, lab_name: str) -> None:
    with running(user, lab_name, chained(4)):
        assert verify(user, lab_name, 0)["lost"] == 0
        with open(user.runs / lab_name / "pairs") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            assert "are being tested already" in user.wirelab("verify", lab_name, status=2).stderr
        assert verify(user, lab_name, 0)["lost"] == 0


def test_machine_without_room_is_told(user: Person, lab_name: str) -> None:
    with running(user, lab_name, chained(40)):
        limit = int(Path("/proc/sys/net/ipv4/neigh/default/gc_thresh3").read_text())
        said = user.wirelab("verify", lab_name).stderr
        told = re.search(r"they need 1,560 neighbour entries[^\n]*\n  hint: ", said) is not None
        assert told == (limit < 1560)
        if told:
            assert f"this machine has room for {limit:,}" in user.wirelab("plan", lab_name).stderr
            assert f"this machine has room for {limit:,}" in user.wirelab("doctor", status=None).stderr


def test_too_few_files(user: Person, lab_name: str) -> None:
    with running(user, lab_name, chained(8)):
        command = " ".join(user.argv("verify", lab_name))
        done = user.run(["/bin/sh", "-c", f"ulimit -n 90; exec {command}"])
        assert done.returncode == 3
        assert "must open 96 files; it may open 90" in done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--pairs", "--all"), "tests one lab"),
        (("nat", "--pairs", "--break", "no-dnat"), "does not go with `--break`"),
        (("nat", "--pairs", "-w", "x.pcapng"), "records no packets"),
        (("nat", "--ip", "6"), "goes with `--pairs`"),
    ],
)
def test_wrong_use(user: Person, words: tuple[str, ...], said: str) -> None:
    assert said in user.wirelab("verify", *words, status=2).stderr


def test_from_python(user: Person, lab_name: str) -> None:
    file = user.home / f"{lab_name}.yml"
    file.write_text(chained(4))
    code = (
        f"import emulator\nwith emulator.up({str(file)!r}, name={lab_name!r}) as lab:\n"
        "    print(lab.reach().reaches('h1', 'h4'))\n    lab.set_cable('h4:eth0', plugged=False)\n"
        "    made = lab.reach()\n    print(made.reaches('h1', 'h4'), made.reaches('h1', 'h3'), made.lost)\n"
    )
    assert user.run([user.python, "-c", code]).stdout == "True\nFalse True 6\n"
