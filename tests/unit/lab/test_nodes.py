"""Files, programs and names that the lab file gives to nodes, IPv6 by router advertisement, and steps of scenes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from emulator.errors import LabFileError, Problem
from emulator.lab.load import build, load, read_document
from emulator.lab.resolve import resolve
from emulator.lab.resolved import ResolvedLab
from emulator.plan import ops
from emulator.plan.compile import compile_plan

Resolved = Callable[..., ResolvedLab]
Problems = Callable[..., tuple[Problem, ...]]

LAB = """
name: l
nodes:
  a:
    hosts: {printer.home.arpa: 192.168.1.9, bee: b}
    files: {/run/lab/x: "b is {b.ip}\\n", /tmp/run.sh: {text: "true\\n", mode: "755"}}
    programs: {echo: {run: "socat TCP-LISTEN:7,fork PIPE", ready: {tcp: 7}}, idle: "sleep 99"}
  b: {interfaces: {eth0: 192.168.1.3/24}}
links: [[a, b]]
scenes:
  - name: s
    steps:
      - {on: a, run: "ping {b.ip}", background: true, id: pings}
      - {on: b, run: "ss -tan", until: "LISTEN", timeout: 3s}
      - {stop: pings}
      - {kill: "a:echo"}
      - {on: a, run: "env A=1 dig -v"}
      - {on: a, run: /tmp/run.sh}
"""


def test_files_programs_and_names(resolved: Resolved) -> None:
    lab = resolved(LAB)
    node = lab.nodes["a"]
    assert [(file.path, file.content, file.mode) for file in node.files] == [
        ("/run/lab/x", "b is 192.168.1.3\n", 0o644),
        ("/tmp/run.sh", "true\n", 0o755),
    ]
    assert [(program.name, program.ready) for program in node.programs] == [("echo", ("tcp", 7)), ("idle", None)]
    plan = compile_plan(lab)
    hosts = next(step for step in plan.operations if isinstance(step, ops.WriteFile) and step.path == "/etc/hosts")
    assert hosts.content.endswith("192.168.1.9 printer.home.arpa\n192.168.1.3 bee\n")
    started = [step.service for step in plan.operations if isinstance(step, ops.StartProcess)]
    waited = [(step.service, step.condition.kind) for step in plan.operations if isinstance(step, ops.WaitUntil)]
    assert started == ["echo", "idle"] and waited == [("echo", "tcp-port")]
    assert {"socat", "dig", "ss", "ping"} <= set(plan.tools) and not any("/" in tool for tool in plan.tools)


def test_steps(resolved: Resolved) -> None:
    first, second, third, fourth, *_ = resolved(LAB).scenes[0].steps
    assert first.background and first.argv == ("ping", "192.168.1.3") and not first.unattended
    assert (second.until, second.timeout_s) == ("LISTEN", 3)
    assert (third.action, third.target) == ("stop", "pings") and (fourth.action, fourth.target) == ("kill", "a:echo")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("/run/lab/x", "/etc/passwd", "expected a path below /run"),
        ("/run/lab/x", "/run/../etc/x", "expected a path below /run"),
        ("/run/lab/x", "/run/wirelab/nsd.conf", "expected a path below /run"),
        ('mode: "755"', 'mode: "795"', "three octal digits"),
        ('text: "true\\n"', 'text: "true\\n", from: x', "either `text` or `from`"),
        ("ready: {tcp: 7}", "ready: {tcp: 7, udp: 7}", "exactly one of tcp, udp, file"),
        ("{echo: {", "{dnsmasq: {", "'dnsmasq' is the name of a service"),
        ("{stop: pings}", "{stop: ping}", "no background step before this one in the scene has the id 'ping'"),
        ("{stop: pings}", "{stop: pings, background: true}", "are for `run`"),
        ('until: "LISTEN"', 'until: "LISTEN("', "not a regular expression"),
        ('until: "LISTEN"', 'until: "LISTEN", stdin: x', "no `background`, no `stdin`"),
        ('until: "LISTEN"', "unattended: true", "only a `background` step can be `unattended`"),
        ("bee: b}", "bee: c}", "'c' is neither an address nor a node"),
        ('"a:echo"', '"a:ecco"', "no service 'a:ecco'"),
    ],
)
def test_what_cannot_be(problems: Problems, old: str, new: str, message: str) -> None:
    assert old in LAB
    found = problems(LAB.replace(old, new, 1))
    assert any(message in problem.message for problem in found), found


def test_files_from_the_folder_of_the_lab(tmp_path: Path) -> None:
    folder = tmp_path / "lab"
    folder.mkdir()
    (folder / "hello.py").write_text("print('{b.ip}')\n", encoding="utf-8")
    (tmp_path / "secret").write_text("x", encoding="utf-8")
    (folder / "link").symlink_to(tmp_path / "secret")
    lab = folder / "lab.yml"
    lab.write_text("{name: l, nodes: {a: {files: {/run/x: {from: hello.py}}}}}", encoding="utf-8")
    document = read_document(lab)
    resolved = resolve(build(document))
    assert resolved.nodes["a"].files[0].content == "print('{b.ip}')\n"
    (folder / "hello.py").unlink()
    assert resolve(build(document, included=resolved.included)).nodes["a"].files == resolved.nodes["a"].files
    for source, message in {
        "hello.py": "cannot read hello.py beside the lab file: No such file or directory",
        "../secret": "../secret is not in the folder of the lab file",
        "link": "link is not in the folder of the lab file",
        ".": ". is not a file",
    }.items():
        lab.write_text(f"{{name: l, nodes: {{a: {{files: {{/run/x: {{from: {source}}}}}}}}}}}", encoding="utf-8")
        with pytest.raises(LabFileError) as caught:
            load(lab)
        assert caught.value.problems[0].message == message


SIX = """
name: l
nodes:
  pc: {interfaces: {eth0: slaac}}
  r:
    kind: router
    interfaces: {lan: [192.168.1.1/24, "2001:db8:1::1/64"], wan: "2001:db8:2::1/64"}
    services: {dnsmasq: {ra: [{interface: lan}]}}
  server: {interfaces: {eth0: "2001:db8:2::80/64"}}
  old: {interfaces: {eth0: 192.168.1.2/24}}
  sw: {kind: switch}
links: [["pc:eth0", sw], ["r:lan", sw], ["old:eth0", sw], ["r:wan", "server:eth0"]]
scenes: [{name: s, steps: [{on: server, run: "ping {pc.ip6} {server.ip} {r.lan.ip} {r.lan.ip6} {server.eth0.net}"}]}]
"""


def test_addresses_by_router_advertisement(resolved: Resolved) -> None:
    lab = resolved(SIX)
    assert lab.nodes["pc"].ipv6 and lab.nodes["pc"].addresses == () and not lab.nodes["old"].ipv6
    # The interface identifier is the MAC 02:57:4c:00:01:00 with its bit 1 turned and ff:fe in the middle.
    assert lab.scenes[0].steps[0].argv[1:] == (
        "2001:db8:1:0:57:4cff:fe00:100", "2001:db8:2::80", "192.168.1.1", "2001:db8:1::1", "2001:db8:2::/64",
    )  # fmt: skip
    plan = compile_plan(lab)
    waits = {(step.node, step.condition.path) for step in plan.operations if isinstance(step, ops.WaitUntil)}
    assert {("pc", "eth0"), ("server", ""), ("r", "")} <= waits
    off = {(step.node, step.key, step.value) for step in plan.operations if isinstance(step, ops.SetSysctl)}
    assert off == {("server", "net.ipv6.conf.eth0.accept_ra", "0")}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("{ra: [{interface: lan}]}", "{dhcp: []}", "pc:eth0 waits for router advertisements"),
        ('lan: [192.168.1.1/24, "2001:db8:1::1/64"]', "lan: 192.168.1.1/24", "r:lan needs an IPv6 address with /64"),
        ("[{interface: lan}]", "[{interface: lam}]", "r has no interface 'lam'"),
        ("{r.lan.ip6}", "{old.ip6}", "{old.ip6}: old has no IPv6 address"),
    ],
)
def test_what_cannot_be_announced(problems: Problems, old: str, new: str, message: str) -> None:
    assert old in SIX
    found = problems(SIX.replace(old, new, 1))
    assert any(message in problem.message for problem in found), found
