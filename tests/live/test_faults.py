"""Faults inside a running lab: what `verify` says under each, and that everything passes again when it is healed."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import Person
from tests.live.conftest import processes, wait_until

pytestmark = pytest.mark.warm

PAGE = {"snat", "shared-port", "handshake", "acknowledged", "close", "page"}
"""What a web server that does not answer breaks in the lab nat."""
NAMES = {"dns-walk", "dns-cache", "page"}
LEASE = {"lease-pc1", "dora"}
UNHEARD = {"links-carry", "arp", "gateway-mac", "ttl", "shared-port", "handshake", "acknowledged", "close"}

FAULTS = {
    "unplug web:eth0": PAGE | {"links-carry", "gateway-mac", "ttl"},
    "freeze web": PAGE | {"links-carry", "gateway-mac", "ttl"},
    "kill web": PAGE | {"links-carry", "gateway-mac", "ttl"},
    "kill home:dnsmasq": LEASE | NAMES | {"dns-by-udp"},
    "freeze resolver": NAMES | {"links-carry", "dns-by-udp"},
    "partition pc1": UNHEARD | LEASE | NAMES | {"dns-by-udp"},
}
"""Fault → exactly the checks of the lab nat that fail under it."""
FORGETS = {"freeze web": "isp", "freeze resolver": "isp", "partition pc1": "pc1,home"}
"""Fault → nodes that must not know their neighbours' MACs from before. Who knows the MAC of one that no longer answers
goes on to send it frames until the kernel gives up, some seconds later; with the time that passes until a scene, its
checks would differ."""


@pytest.fixture(scope="module")
def running(people: dict[str, Person]) -> Iterator[Callable[[Person], str]]:
    """The lab nat of a person, brought up when it is first asked for."""
    names: dict[str, str] = {}

    def find(person: Person) -> str:
        if person.name not in names:
            names[person.name] = f"faults-{os.getpid()}"
            person.wirelab("up", "nat", "--name", names[person.name])
            assert not_passed(person, names[person.name]) == {}  # so that nodes know each other's MACs
        return names[person.name]

    yield find
    for name, lab in names.items():
        people[name].wirelab("down", lab)


def not_passed(person: Person, lab: str) -> dict[str, str]:
    """The checks that do not pass, and their verdicts."""
    report = person.json("verify", lab, status=None)
    return {check["name"]: check["verdict"] for check in report["checks"] if check["verdict"] != "pass"}


@pytest.mark.parametrize(
    ("person", "fault"),
    [*(("user", fault) for fault in FAULTS), ("root", "partition pc1")],
    indirect=["person"],
)
def test_exactly_these_checks_fail_until_it_is_healed(
    person: Person, running: Callable[[Person], str], fault: str
) -> None:
    lab = running(person)
    done = person.json("fault", lab, *fault.split())
    assert len(done["faults"]) == 1
    assert person.json("ps", lab)["faults"] == done["faults"]
    if nodes := FORGETS.get(fault):
        person.wirelab("exec", lab, nodes, "--", "ip", "neighbour", "flush", "all")
    try:
        assert not_passed(person, lab) == dict.fromkeys(FAULTS[fault], "fail")
    finally:
        healed = person.wirelab("fault", lab, "heal").stdout
    assert healed == "healed: 1 fault taken back\n"
    assert person.json("fault", lab)["faults"] == []
    assert not_passed(person, lab) == {}


SMALL = """
name: small
nodes:
  a: {interfaces: {eth0: 192.168.1.2/24}}
  b:
    interfaces: {eth0: 192.168.1.3/24}
    services: {http: {}}
    programs:
      steady: {run: "socat TCP-LISTEN:7,fork,reuseaddr PIPE", ready: {tcp: 7}, restart: on-failure}
      dies: {run: "sh -c 'echo last words; exit 3'", restart: on-failure}
  c: {interfaces: {eth0: 192.168.1.4/24}}
  one: {kind: switch}
  two: {kind: switch}
links: [["a:eth0", one], ["b:eth0", one], [one, two], ["c:eth0", two]]
"""


@pytest.fixture
def small(person: Person, lab_name: str, nothing_left: Callable[[], None]) -> str:
    """A small lab that runs."""
    file = person.home / f"{lab_name}.yml"
    file.write_text(SMALL, encoding="utf-8")
    file.chmod(0o644)
    person.wirelab("up", str(file), "--name", lab_name)
    return lab_name


def test_a_frozen_node_does_nothing(person: Person, small: str) -> None:
    ping = ("exec", small, "a", "--", "ping", "-n", "-c1", "-W1", "192.168.1.3")
    person.wirelab(*ping)
    ticks = person.home / f"{small}.ticks"
    with ticks.open("w") as stream:
        ticking = person.popen(
            person.argv("exec", small, "b", "--", "sh", "-c", "while :; do echo tick; sleep 0.05; done"), stdout=stream
        )
    try:
        wait_until(lambda: ticks.stat().st_size > 0, "it ticks")
        assert person.wirelab("fault", small, "freeze", "b").stdout == "b is frozen\n"
        ticked = ticks.stat().st_size
        person.wirelab(*ping, status=1)
        assert ticks.stat().st_size == ticked, "a process of the node goes on"
        refused = person.wirelab("exec", small, "b", "--", "true", status=1).stderr
        assert "b is frozen" in refused and f"wirelab fault {small} continue b" in refused
        port = person.wirelab("exec", small, "one", "--", "ip", "link", "show", "b").stdout
        assert "LOWER_UP" in port
        assert {node["name"]: node["state"] for node in person.json("ps", small)["nodes"]}["b"] == "frozen"
        person.wirelab("fault", small, "freeze", "b")  # asking again changes nothing
        person.wirelab("fault", small, "continue", "b")
        wait_until(lambda: ticks.stat().st_size > ticked, "it goes on")
    finally:
        ticking.kill()
        ticking.wait()
    person.wirelab(*ping)


def test_whoever_starts_programs_all_the_time_is_frozen_too(person: Person, small: str) -> None:
    """A shell waits in vfork(2) until its child has started its program, and cannot be stopped meanwhile."""
    script = "echo busy; while :; do /bin/true; done"
    busy = [
        person.popen(person.argv("exec", small, "b", "--", "sh", "-c", script), stdout=subprocess.PIPE)
        for _ in range(2)
    ]
    try:
        for process in busy:
            assert process.stdout is not None
            assert process.stdout.readline() == "busy\n"
        for _ in range(6):
            person.wirelab("fault", small, "freeze", "b")
            person.wirelab("fault", small, "continue", "b")
        person.wirelab("fault", small, "kill", "b")
    finally:
        for process in busy:
            process.kill()
            process.communicate()


def test_a_node_without_power_forgets(person: Person, small: str) -> None:
    in_b = ("exec", small, "b", "--")
    for command in (
        "touch /run/volatile /tmp/volatile /var/tmp/disk",
        "ip address add 10.9.9.9/32 dev lo",
        "ip link add extra type bridge",
        "sysctl -qw net.ipv4.ip_default_ttl=9",
        "iptables -A INPUT -p icmp -j DROP",
    ):
        person.wirelab(*in_b, *command.split())
    assert person.wirelab("fault", small, "kill", "b").stdout == "b is off\n"
    assert "NO-CARRIER" in person.wirelab("exec", small, "one", "--", "ip", "link", "show", "b").stdout
    assert "b is off" in person.wirelab(*in_b, "true", status=1).stderr
    person.wirelab("link", small, "b:eth0", "down")
    person.wirelab("fault", small, "restart", "b")
    person.wirelab("exec", small, "a", "--", "ping", "-c1", "-W1", "192.168.1.3", status=1)  # the cable is still out
    person.wirelab("link", small, "b:eth0", "up")
    person.wirelab("exec", small, "a", "--", "ping", "-n", "-c1", "-W1", "192.168.1.3")
    person.wirelab("exec", small, "a", "--", "curl", "-sS", "--max-time", "3", "http://192.168.1.3/")
    left = person.wirelab(*in_b, "sh", "-c", "ls /run /tmp /var/tmp; ip address; iptables-save; sysctl net.ipv4").stdout
    assert "volatile" not in left and "10.9.9.9" not in left and "extra" not in left and "DROP" not in left
    assert "net.ipv4.ip_default_ttl = 64" in left
    assert "disk" in left
    assert person.json("fault", small)["faults"] == []


def test_a_partition_over_two_switches(person: Person, small: str) -> None:
    def hears(node: str, address: str) -> bool:
        done = person.wirelab("exec", small, node, "--", "ping", "-n", "-c1", "-W1", address, status=None)
        return done.returncode == 0

    person.wirelab("fault", small, "partition", "a,c")
    assert hears("a", "192.168.1.4")
    assert not hears("a", "192.168.1.3") and not hears("c", "192.168.1.3")
    other = person.wirelab("fault", small, "partition", "a", status=2).stderr
    assert "another partition" in other
    person.wirelab("fault", small, "restart", "one")  # a switch that boots is still cut in two
    assert hears("a", "192.168.1.4") and not hears("a", "192.168.1.3")
    person.wirelab("fault", small, "heal")
    assert hears("a", "192.168.1.3") and hears("c", "192.168.1.3") and hears("a", "192.168.1.4")
    person.wirelab("fault", small, "partition", "a,b,one", "two,c")  # switches that are named: their cable is pulled
    ports = [person.wirelab("exec", small, node, "--", "ip", "link").stdout for node in ("one", "two")]
    assert any("NO-CARRIER" in text for text in ports)
    assert hears("a", "192.168.1.3") and not hears("a", "192.168.1.4")
    person.wirelab("fault", small, "heal")
    assert hears("a", "192.168.1.4")


def services(person: Person, lab: str) -> dict[str, dict[str, object]]:
    """The services of a lab's nodes by name."""
    nodes = person.json("ps", lab)["nodes"]
    return {service["service"]: service for node in nodes for service in node["services"]}


def test_a_crashed_daemon_shows_and_one_that_may_comes_back(person: Person, small: str) -> None:
    wait_until(lambda: services(person, small)["dies"]["restarts"] == 5, "it is given up")
    wait_until(lambda: not services(person, small)["dies"]["restarting"], "it is given up")
    dead = services(person, small)["dies"]
    assert (dead["running"], dead["status"], dead["log"]) == (False, 3, ["last words"] * 6)
    shown = person.wirelab("ps", small).stdout
    assert "dies on b ended with status 3 at " in shown and "\n    last words\n" in shown
    before = services(person, small)["steady"]
    person.wirelab("fault", small, "kill", "b:steady")
    wait_until(lambda: services(person, small)["steady"]["restarts"] == 1, "it is started again")
    after = services(person, small)["steady"]
    assert after["running"] and after["pid"] != before["pid"]
    echo = ("exec", small, "a", "--", "socat", "-t2", "-", "TCP:192.168.1.3:7")
    wait_until(lambda: person.wirelab(*echo, status=None).returncode == 0, "it listens again")
    assert person.json("fault", small)["faults"] == []  # what comes back is no fault
    person.wirelab("fault", small, "kill", "b:http")
    assert "http was killed by signal 9" in person.wirelab("ps", small).stdout
    assert not services(person, small)["http"]["restarts"]
    person.wirelab("fault", small, "restart", "b:http")
    person.wirelab("exec", small, "a", "--", "curl", "-sS", "--max-time", "3", "http://192.168.1.3/")
    assert person.json("fault", small)["faults"] == []


def test_healing_waits_until_clients_have_their_leases(
    person: Person, lab_name: str, nothing_left: Callable[[], None]
) -> None:
    """A client that booted while its router was off has none, and asks when it likes."""
    file = person.home / f"{lab_name}.yml"
    file.write_text(
        "name: leases\nnodes:\n  pc: {interfaces: {eth0: dhcp}}\n  gw:\n    interfaces: {eth0: 10.0.0.1/24}\n"
        "    services: {dnsmasq: {dhcp: [{interface: eth0, range: 10.0.0.9-10.0.0.9}]}}\nlinks: [[pc, gw]]\n",
        encoding="utf-8",
    )
    file.chmod(0o644)
    person.wirelab("up", str(file), "--name", lab_name)
    address = ("exec", lab_name, "pc", "--", "ip", "-4", "address", "show", "dev", "eth0")
    person.wirelab("fault", lab_name, "kill", "gw")
    assert "does not answer" in person.wirelab("fault", lab_name, "restart", "pc", status=1).stderr
    assert "10.0.0.9" not in person.wirelab(*address).stdout
    assert person.wirelab("fault", lab_name, "heal").stdout == "healed: 1 fault taken back\n"
    assert "10.0.0.9/24" in person.wirelab(*address).stdout


def test_healing_tells_what_it_started(person: Person, small: str) -> None:
    person.wirelab("exec", small, "b", "--", "pkill", "-9", "httpd", status=None)
    person.wirelab("exec", small, "b", "--", "pkill", "-9", "busybox", status=None)

    def runs() -> bool:
        node = next(node for node in person.json("ps", small)["nodes"] if node["name"] == "b")
        return next(service["running"] for service in node["services"] if service["service"] == "http")

    wait_until(lambda: not runs(), "the server is dead")
    dead = "1 service started again", "2 services started again"  # `dies` may have given up by now
    assert person.wirelab("fault", small, "heal").stdout in [f"healed: {text}\n" for text in dead]
    assert runs()


def test_nothing_is_touched_when_one_of_several_is_not_there(person: Person, small: str) -> None:
    for words in (("freeze", "a", "nobody"), ("kill", "a", "b:htp"), ("unplug", "a:eth0", "a:eth7")):
        person.wirelab("fault", small, *words, status=2)
        assert person.json("fault", small)["faults"] == []


def test_faults_that_cannot_be(person: Person, small: str) -> None:
    for words, said in (
        (("freeze", "bb"), "no node bb"),
        (("kill", "b:htp"), "did you mean 'b:http'?"),
        (("unplug", "b:eth9"), "no interface b:eth9"),
        (("partition", "a,a"), "a node is in one group"),
        (("freeze",), "freeze what?"),
        (("heal", "b"), "heal takes back all faults"),
        (("melt", "b"), "invalid choice"),
    ):
        assert said in person.wirelab("fault", small, *words, status=2).stderr
    person.wirelab("fault", small, "kill", "b")
    assert "b is off" in person.wirelab("fault", small, "freeze", "b", status=2).stderr
    assert "b is off" in person.wirelab("fault", small, "kill", "b:http", status=2).stderr
    assert [fault["target"] for fault in person.json("fault", small)["faults"]] == ["b"]


KILLED = [("kill", "b"), ("restart", "b"), ("freeze", "b"), ("partition", "a"), ("heal",)]


@pytest.mark.parametrize(
    ("person", "words"), [*(("user", words) for words in KILLED), ("root", KILLED[0])], indirect=["person"]
)
def test_a_killed_command_leaves_what_heal_undoes(person: Person, small: str, words: tuple[str, ...]) -> None:
    """`fault` is killed at points spread over its run; whatever it has done by then, `heal` takes it back."""
    for part in (0.5, 0.7, 0.9):
        if words == ("heal",):
            person.wirelab("fault", small, "kill", "b")
        began = time.monotonic()
        if part == 0.5:
            person.wirelab("fault", small, *words)
            whole_s = time.monotonic() - began
            if words == ("heal",):
                person.wirelab("fault", small, "kill", "b")
            else:
                person.wirelab("fault", small, "heal")
        with person.popen(person.argv("fault", small, *words), stdout=subprocess.DEVNULL) as process:
            try:
                process.wait(whole_s * part)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
        person.wirelab("fault", small, "heal")
        assert person.json("fault", small)["faults"] == []
        person.wirelab("exec", small, "a", "--", "curl", "-sS", "--max-time", "3", "http://192.168.1.3/")
        person.wirelab("exec", small, "a", "--", "ping", "-n", "-c1", "-W1", "192.168.1.4")
    wait_until(
        lambda: not [line for line in processes(str(person.runs / small)).values() if "builder" in line], "no builder"
    )


SCRIPT = """
import sys
import emulator
from emulator.errors import CommandFailed

with emulator.up(sys.argv[1], name=sys.argv[2]) as lab:
    ping = ["ping", "-n", "-c1", "-W1", "192.168.1.3"]
    lab["b"].run(["true"], check=True)
    lab.faults.kill("b")
    assert lab["a"].run(ping).status == 1
    try:
        lab["b"].run(["true"])
    except CommandFailed as error:
        assert "off" in error.message
    else:
        raise AssertionError
    assert lab.faults.restart("b") == []
    assert lab["b"].run(["ip", "-br", "address"], check=True).stdout.count("192.168.1.3") == 1
    lab.faults.freeze("b")
    lab.faults.unplug("a:eth0")
    assert len(lab.faults.now()) == 2
    assert lab.faults.heal() == []
    assert lab["a"].run(ping).status == 0
"""


def test_from_python(user: Person, lab_name: str, tmp_path: Path) -> None:
    file = user.home / f"{lab_name}.yml"
    file.write_text(SMALL, encoding="utf-8")
    file.chmod(0o644)
    done = user.run([user.python, "-c", SCRIPT, str(file), lab_name])
    assert done.returncode == 0, done.stderr


def test_without_nft_it_is_said(people: dict[str, Person], lab_name: str) -> None:
    if "root" not in people:
        pytest.skip("the tests do not run as root")
    root = people["root"]
    file = root.home / f"{lab_name}.yml"
    file.write_text(SMALL, encoding="utf-8")
    hide = 'mount --bind /dev/null "$(readlink -f "$(command -v nft)")" && exec "$@"'
    argv = ["unshare", "-m", "sh", "-c", hide, "sh"]
    try:
        root.wirelab("up", str(file), "--name", lab_name)
        done = root.run([*argv, *root.argv("fault", lab_name, "freeze", "b")])
        assert done.returncode == 3, done.stderr
        assert "nft" in done.stderr and "nftables" in done.stderr
        assert root.json("fault", lab_name)["faults"] == []
        root.wirelab("fault", lab_name, "freeze", "b")  # what was done before stays on the list, to be healed
        again = root.run([*argv, *root.argv("fault", lab_name, "freeze", "b")])
        assert again.returncode == 3, again.stderr
        assert [fault["text"] for fault in root.json("fault", lab_name)["faults"]] == ["b is frozen"]
        root.wirelab("fault", lab_name, "heal")
        root.wirelab("exec", lab_name, "b", "--", "true")
    finally:
        root.wirelab("down", lab_name)


CABLES = """
name: cables
nodes:
  a: {interfaces: {eth0: 192.0.2.1/24, eth1: 198.51.100.1/24}}
  b: {interfaces: {eth0: 192.0.2.2/24}}
  c: {interfaces: {eth0: 198.51.100.2/24}}
  s1: {kind: switch}
  s2: {kind: switch}
links: [["a:eth0", "b:eth0"], ["a:eth1", "s1:a"], ["s1:s2", "s2:s1"], ["s2:c", "c:eth0"]]
"""


@pytest.mark.parametrize("ends", [("a:eth0", "b:eth0"), ("s1:s2", "s2:s1"), ("c:eth0", "s2:c")])
def test_a_cable_has_two_ends(user: Person, lab_name: str, ends: tuple[str, str]) -> None:
    """It is pulled by one name and put back by the other."""
    file = user.home / f"{lab_name}.yml"
    file.write_text(CABLES, encoding="utf-8")
    far = "192.0.2.2" if ends[0] == "a:eth0" else "198.51.100.2"
    user.wirelab("up", str(file), "--name", lab_name)
    try:
        for first, second in (ends, ends[::-1]):
            user.wirelab("fault", lab_name, "unplug", first)
            ping = ("exec", lab_name, "a", "--", "ping", "-n", "-c1", "-W1", far)
            assert user.wirelab(*ping, status=None).returncode != 0
            assert len(user.json("fault", lab_name)["faults"]) == 1
            user.wirelab("fault", lab_name, "plug", second)
            assert user.json("fault", lab_name)["faults"] == []
            wait_until(lambda: user.wirelab(*ping, status=None).returncode == 0, f"{far} answers")  # noqa: B023
    finally:
        user.wirelab("down", lab_name)
