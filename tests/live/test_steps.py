"""What a lab file's nodes and steps can do: files, programs, bridges, loopback, steps in the background."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Person
from tests.live.conftest import wait_until

pytestmark = pytest.mark.warm

LAB = """
name: steps
nodes:
  a:
    interfaces: {eth0: 192.168.1.2/24, lo: {}}
    hosts: {beta: b}
    files: {/run/lab/greeting: "I am {b.ip}\\n", /run/lab/hello.sh: {from: hello.sh, mode: "755"}}
    programs: {echo: {run: "socat TCP-LISTEN:7,fork,reuseaddr PIPE", ready: {tcp: 7}}}
  b: {interfaces: {eth0: 192.168.1.3/24}}
  home:
    kind: router
    bridges: {lan: {ports: [lan1, lan2], address: 192.168.1.1/24}}
links: [["a:eth0", "home:lan1"], {endpoints: ["b:eth0", "home:lan2"], rate: 10mbit}]
scenes:
  - name: all
    steps:
      - {on: b, run: "ping -n -i 0.1 {a.ip}", background: true, id: pings}
      - {on: a, run: "ping -n -c 1 beta"}
      - {on: a, run: "ping -n -c 1 127.0.0.1"}
      - {on: b, run: "socat - TCP:{a.ip}:7", stdin: "to and fro\\n"}
      - {on: a, run: "/run/lab/hello.sh"}
      - {on: home, run: "ip neighbour", until: "dev lan"}
      - {stop: pings}
      - {on: b, run: "sh -c 'sleep 30'", background: true, timeout: 60s}
checks:
  - {name: by-name, layer: network, check: seen, filter: "icmp.type == 8 && ip.dst == {b.ip}", at: "a:eth0"}
  - {name: pings, layer: network, check: seen, filter: "icmp.type == 8 && ip.src == {b.ip}", at: "home:lan2"}
  - {name: loopback, layer: network, check: seen, filter: ip.dst == 127.0.0.1 && icmp.type == 8, at: "a:lo", count: 1}
  - {name: wire, layer: network, check: never-seen, filter: ip.dst == 127.0.0.1, at: ["a:eth0", "b:eth0"]}
  - {name: echo, layer: transport, check: seen, filter: 'tcp.srcport == 7 && tcp.payload contains "fro"', at: "b:eth0"}
  - {name: router, layer: network, check: seen, filter: "icmp.type == 0 && ip.src == {home.lan.ip}", at: "home:lan"}
break:
  no-echo: {steps: [{kill: "a:echo"}], fails: [echo]}
"""
HELLO = "#!/bin/sh\nping -n -c 1 -I 192.168.1.2 192.168.1.1\n"


def written(person: Person, name: str, text: str) -> Path:
    """A lab file in a folder of its own, beside the program that it includes."""
    folder = person.home / name
    folder.mkdir(exist_ok=True)
    (folder / "hello.sh").write_text(HELLO, encoding="utf-8")
    (folder / "lab.yml").write_text(text, encoding="utf-8")
    folder.chmod(0o755)
    return folder


def test_the_language_does_what_it_says(person: Person, lab_name: str, nothing_left: Callable[[], None]) -> None:
    folder = written(person, lab_name, LAB)
    person.wirelab("up", str(folder), "--name", lab_name)
    assert person.wirelab("exec", lab_name, "a", "--", "cat", "/run/lab/greeting").stdout == "I am 192.168.1.3\n"
    (folder / "hello.sh").unlink()  # what the lab included is kept with it
    for _ in range(2):
        report = person.json("verify", lab_name, status=None)
        assert report["pass"] == len(report["checks"]) == 6, report
    left = person.wirelab("exec", lab_name, "b", "--", "sh", "-c", "pgrep -a sleep || true").stdout
    assert "sleep 30" not in left
    assert "10Mbit" in person.wirelab("exec", lab_name, "b", "--", "tc", "qdisc", "show", "dev", "eth0").stdout
    bridge = person.wirelab("exec", lab_name, "home", "--", "bridge", "link").stdout
    assert bridge.count("master lan") == 2
    person.wirelab("link", lab_name, "b:eth0", "down")
    assert "state disabled" in person.wirelab("exec", lab_name, "home", "--", "bridge", "link").stdout
    person.wirelab("link", lab_name, "b:eth0", "up")
    assert "has no cable" in person.wirelab("link", lab_name, "home:lan", "down", status=2).stderr


def test_its_twin(user: Person, lab_name: str) -> None:
    folder = written(user, lab_name, LAB)
    assert user.json("verify", str(folder), "--break", "no-echo", status=1)["break"]["as_meant"]


UNATTENDED = """
name: unattended
nodes: {a: , b: }
links: [[a, b]]
scenes:
  - name: s
    steps:
      - on: a
        run: sh -c 'until test -e /run/go; do sleep 0.02; done; touch /run/done'
        background: true
        unattended: true
        timeout: 60s
      - {on: a, run: sh -c 'exec sleep 61', background: true, timeout: 61s}
      - {on: a, run: "sleep 62", timeout: 62s}
checks: [{name: c, layer: physical, check: links-carry}]
"""


def test_what_is_unattended_outlives_a_killed_verification(
    person: Person, lab_name: str, nothing_left: Callable[[], None]
) -> None:
    folder = written(person, lab_name, UNATTENDED)
    person.wirelab("up", str(folder), "--name", lab_name)

    def running(what: str) -> bool:
        return what in person.wirelab("exec", lab_name, "a", "--", "ps", "-A", "-o", "args").stdout

    with person.popen(person.argv("verify", lab_name), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        wait_until(lambda: running("sleep 62"), "the last step runs")
        os.kill(process.pid, signal.SIGKILL)
    wait_until(lambda: not running("sleep 62") and not running("sleep 61"), "what is attended has ended")
    assert running("until test")
    person.wirelab("exec", lab_name, "a", "--", "touch", "/run/go")
    wait_until(lambda: not running("until test"), "what is unattended ends by itself")
    person.wirelab("exec", lab_name, "a", "--", "test", "-e", "/run/done")
