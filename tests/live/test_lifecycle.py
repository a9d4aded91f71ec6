"""A lab comes up, is used and goes, as an ordinary user and as root, and the machine is as it was."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable

import pytest

from tests.conftest import Person
from tests.live.conftest import first_processes, host_state, namespaces_of, processes, users_of, wait_until

POINTS = 6


def test_up_use_down(person: Person, lab_name: str, nothing_left: Callable[[], None]) -> None:
    before = host_state()
    up = person.json("up", "nat", "--name", lab_name)
    assert up["name"] == lab_name
    during = host_state()
    page = person.wirelab("exec", lab_name, "pc1", "--", "curl", "-s", "http://www.example.com/").stdout
    assert "You reached www.example.com" in page
    assert person.wirelab("exec", lab_name, "pc1", "--", "sh", "-c", "exit 7", status=7).stdout == ""
    assert person.wirelab("exec", lab_name, "pc1", "--", "hostname").stdout == "pc1\n"
    assert "192.168.1.1" in person.wirelab("exec", lab_name, "pc1", "--", "cat", "/etc/resolv.conf").stdout
    for node in ("sw", "core", "isp"):
        links = json.loads(person.wirelab("exec", lab_name, node, "--", "ip", "-json", "link").stdout)
        cables = [link for link in links if "link_index" in link]
        assert cables
        assert all(link["ifindex"] != link["link_index"] for link in cables), "the kernel would tell carriers late"
    rows = {row["name"]: row for row in person.json("ps")}
    assert rows[lab_name]["services"] == 10
    assert rows[lab_name]["failed"] == []
    nodes = {node["name"]: node for node in person.json("ps", lab_name)["nodes"]}
    assert nodes["server"]["interfaces"]["eth0"]["addresses"] == ["192.168.1.10/24"]
    person.wirelab("down", lab_name)
    nothing_left()
    assert before == during == host_state()


def test_files_of_a_node_are_its_own(person: Person, lab_name: str, nothing_left: Callable[[], None]) -> None:
    person.wirelab("up", "nat", "--name", lab_name)
    person.wirelab("exec", lab_name, "pc1", "--", "touch", "/tmp/only-pc1", "/run/only-pc1")
    assert "only-pc1" in person.wirelab("exec", lab_name, "pc1", "--", "ls", "/tmp", "/run").stdout
    assert "only-pc1" not in person.wirelab("exec", lab_name, "pc2", "--", "ls", "/tmp", "/run").stdout
    assert not list(person.home.parent.glob("**/only-pc1"))


def test_running_lab_is_not_started_again(person: Person, lab_name: str, nothing_left: Callable[[], None]) -> None:
    person.wirelab("up", "nat", "--name", lab_name)
    again = person.wirelab("up", "nat", "--name", lab_name, status=2)
    assert f"the lab {lab_name} is running already" in again.stderr
    assert person.wirelab("exec", lab_name, "pc1", "--", "true").returncode == 0


def test_two_instances_do_not_disturb_each_other(user: Person, lab_name: str) -> None:
    names = [f"{lab_name}-a", f"{lab_name}-b"]
    try:
        for name in names:
            user.wirelab("up", "nat", "--name", name)
        both = [user.popen(user.argv("verify", name, "--json"), stdout=subprocess.PIPE) for name in names]
        reports = [json.loads(process.communicate(timeout=100)[0]) for process in both]
        for report in reports:
            assert (report["fail"], report["unknown"]) == (0, 0), [
                c for c in report["checks"] if c["verdict"] != "pass"
            ]
        user.wirelab("exec", names[0], "home", "--", "ip", "link", "set", "lan", "down")
        assert user.wirelab("exec", names[1], "pc1", "--", "ping", "-c1", "-W1", "192.168.1.1").returncode == 0
    finally:
        user.wirelab("down", *names, status=None)


def test_killed_first_process(person: Person, lab_name: str, nothing_left: Callable[[], None]) -> None:
    person.wirelab("up", "nat", "--name", lab_name)
    _keeper, init = first_processes(person.runs, lab_name)
    own = namespaces_of(init)
    assert set(own) == {"user", "net", "mnt", "pid", "uts", "ipc"}
    assert not set(own.values()) & set(namespaces_of(os.getpid()).values())
    kill(person, init)
    nothing_left()
    wait_until(lambda: not users_of(set(own.values())), "no process is in the lab's namespaces")
    gone = person.wirelab("exec", lab_name, "pc1", "--", "true", status=2)
    assert f"no lab called {lab_name} is running" in gone.stderr


def test_killed_keeper_and_first_process(person: Person, lab_name: str) -> None:
    person.wirelab("up", "nat", "--name", lab_name)
    for pid in first_processes(person.runs, lab_name):
        kill(person, pid)
    wait_until(lambda: not processes(str(person.runs / lab_name)), "no process is left")
    assert lab_name not in [row["name"] for row in person.json("ps")]
    assert not (person.runs / lab_name).exists()
    person.wirelab("up", "nat", "--name", lab_name)
    person.wirelab("down", lab_name)


@pytest.mark.parametrize("point", range(POINTS))
def test_killed_up(person: Person, lab_name: str, nothing_left: Callable[[], None], point: int) -> None:
    """`up` is killed at points spread over its whole run."""
    process = person.popen(
        person.argv("up", "nat", "--name", lab_name), stdout=subprocess.DEVNULL, start_new_session=True
    )
    time.sleep(0.15 + 0.25 * point)
    process.send_signal(signal.SIGKILL)
    status = process.wait(20)
    if status == 0:
        person.wirelab("down", lab_name)
    nothing_left()


def test_interrupted_up(person: Person, lab_name: str, nothing_left: Callable[[], None]) -> None:
    process = person.popen(
        person.argv("up", "nat", "--name", lab_name),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    wait_until((person.runs / lab_name / "log").exists, "services start")
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=20)
    assert process.returncode == 130
    assert said == "wirelab: interrupted\n"
    nothing_left()


def test_cable(user: Person, lab_name: str) -> None:
    user.wirelab("up", "nat", "--name", lab_name)
    try:
        ping = ("exec", lab_name, "pc1", "--", "ping", "-c1", "-W1", "192.0.2.80")
        user.wirelab(*ping)
        user.wirelab("link", lab_name, "web:eth0", "down")
        user.wirelab(*ping, status=1)
        user.wirelab("link", lab_name, "web:eth0", "up")
        user.wirelab(*ping)
        wrong = user.wirelab("link", lab_name, "wbe:eth0", "down", status=2)
        assert "did you mean 'web:eth0'?" in wrong.stderr
    finally:
        user.wirelab("down", lab_name)


def test_a_dead_service_shows(user: Person, lab_name: str) -> None:
    user.wirelab("up", "nat", "--name", lab_name)
    try:
        pids = {node["name"]: node["services"] for node in user.json("ps", lab_name)["nodes"]}
        dnsmasq = pids["home"][0]["pid"]
        user.wirelab("exec", lab_name, "home", "--", "kill", "-9", str(dnsmasq))
        wait_until(lambda: "dnsmasq on home was killed by signal 9" in user.wirelab("ps").stdout, "ps tells")
    finally:
        user.wirelab("down", lab_name)


def kill(person: Person, pid: int) -> None:
    """kill -9, with the person's own rights."""
    person.run(["/bin/sh", "-c", f"kill -9 {pid}"])
