"""The command line as a user meets it: results, errors, exit status."""

from __future__ import annotations

import json
import os
import signal
import subprocess

import pytest

from tests.conftest import ROOT, Person
from tests.live.conftest import wait_until

WRONG = """\
name: wrong
nodes:
  pc1: {interfaces: {eth0: 10.0.0.1/24}}
  sw: {kind: switch}
links:
  - [pc1:eth0, sww]
"""


def test_labs_and_validate(user: Person) -> None:
    names = [row["name"] for row in user.json("labs")]
    assert sorted(names) == sorted(file.parent.name for file in (ROOT / "labs").glob("*/lab.yml"))
    order = [line for line in (ROOT / "labs" / "order.txt").read_text().splitlines() if line in names]
    assert names == order
    assert [line.split()[0] for line in user.wirelab("labs").stdout.splitlines()] == names
    assert "no problem" in user.wirelab("validate", "nat").stdout


def test_a_wrong_lab_file_builds_nothing(user: Person) -> None:
    file = user.home / "wrong.yml"
    file.write_text(WRONG)
    file.chmod(0o644)
    for words in (("up", str(file)), ("validate", str(file)), ("plan", str(file)), ("verify", str(file))):
        said = user.wirelab(*words, status=2).stderr
        assert f"{file}:6:16: no node 'sww' (did you mean 'sw'?)" in said
        assert "nothing was built" in said
    assert not user.runs.exists() or not list(user.runs.glob("wrong*"))
    assert user.json("validate", str(file), status=2)["problems"][0]["line"] == 6


def test_usage_errors(user: Person) -> None:
    assert "hint:" in user.wirelab("frobnicate", status=2).stderr
    assert "which lab?" in user.wirelab("down", status=2).stderr
    assert "no LAB goes with it" in user.wirelab("down", "--all", "ping", status=2).stderr
    assert "name" in user.wirelab("up", "ping", "--name", "", status=2).stderr
    assert user.wirelab("fault", status=2).stderr.startswith("wirelab: the following arguments are required: LAB\n")
    for file, said in (("/nonexistent/x.xml", "there is no folder"), ("/tmp", "it is no file"), ("", "it is no file")):
        assert said in user.wirelab("verify", "ping", "--junit", file, status=2).stderr
        assert said in user.wirelab("explain", "--pcap", "x", "--html", file, status=2).stderr
    assert "no lab called nosuch" in user.wirelab("exec", "nosuch", "pc1", "--", "true", status=2).stderr
    assert "cannot be the name" in user.wirelab("up", "nat", "--name", "../x", status=2).stderr


def test_a_missing_program_is_named(user: Person, lab_name: str) -> None:
    file = user.home / f"{lab_name}.yml"
    file.write_text(
        f"name: {lab_name}\nnodes:\n  a: {{}}\n  b: {{}}\nlinks: [[a, b]]\n"
        "scenes: [{name: s, steps: [{on: a, run: no-such-program}]}]\n"
    )
    said = user.wirelab("up", str(file), status=3).stderr
    assert "no-such-program (package no-such-program)" in said
    assert "hint:" in said
    assert not (user.runs / lab_name).exists()


def test_a_hidden_tool_names_its_package(people: dict[str, Person], lab_name: str) -> None:
    """dnsmasq is hidden in a mount namespace of its own: `up` and `doctor` say which package brings it."""
    if "root" not in people:
        pytest.skip("the tests do not run as root")
    root = people["root"]
    hide = 'mount --bind /dev/null "$(readlink -f "$(command -v dnsmasq)")" && exec "$@"'
    argv = ["unshare", "-m", "sh", "-c", hide, "sh"]
    done = root.run([*argv, *root.argv("up", "nat", "--name", lab_name)])
    assert done.returncode == 3, done.stderr
    assert "dnsmasq (package dnsmasq-base)" in done.stderr
    assert "apt-get install dnsmasq-base" in done.stderr
    doctor = root.run([*argv, *root.argv("doctor")])
    assert doctor.returncode == 3
    assert "install what is missing: apt-get install dnsmasq-base" in doctor.stdout


def test_a_service_that_cannot_start_tells_why(user: Person, lab_name: str) -> None:
    file = user.home / f"{lab_name}.yml"
    file.write_text(
        f"name: {lab_name}\nnodes:\n  a: {{services: {{http: {{}}}}, exec: [busybox nc -l -p 80]}}\n"
        "  b: {}\nlinks: [[a, b]]\n"
    )
    said = user.wirelab("up", str(file), status=1).stderr
    assert "cannot run on a: busybox nc -l -p 80" in said
    assert "Address already in use" in said
    assert not (user.runs / lab_name).exists()


def test_doctor(person: Person) -> None:
    findings = person.json("doctor")
    assert findings["ok"] is True
    names = {finding["name"] for finding in findings["findings"]}
    assert {"namespaces", "veth", "bridge", "nat", "dnsmasq", "nsd", "unbound"} <= names


def test_no_user_namespaces_is_said(user: Person, lab_name: str) -> None:
    """Without the right to make namespaces: exit 3, and what to change."""
    limit = 'echo 0 >/proc/sys/user/max_net_namespaces && exec "$@"'
    done = user.run(["unshare", "-Ur", "sh", "-c", limit, "sh", *user.argv("up", "nat", "--name", lab_name)])
    assert done.returncode == 3, done.stderr
    assert "cannot make namespaces" in done.stderr
    assert "user.max_net_namespaces" in done.stderr
    assert not list(user.runs.glob(f"*{lab_name}*"))


def test_capture(user: Person, lab_name: str) -> None:
    file = user.home / f"{lab_name}.pcapng"
    user.wirelab("up", "nat", "--name", lab_name)
    try:
        process = user.popen(
            user.argv("capture", lab_name, "pc1", "home:wan", "-w", str(file)),
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        assert process.stderr is not None
        assert "recording 2 interfaces" in process.stderr.readline()
        user.wirelab("exec", lab_name, "pc1", "--", "ping", "-c2", "-i0.1", "192.0.2.80")
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=20)
        assert process.returncode == 0, said
        assert "none lost" in said
        from emulator.capture.pcapng import read

        recorded = read(file)
        assert [interface.name for interface in recorded.interfaces] == ["pc1:eth0", "home:wan"]
        assert {packet.direction for packet in recorded.packets} == {"in", "out"}
        assert recorded.truncated is None
        wrong = user.wirelab("capture", lab_name, "pc1:eth9", "-w", str(file), status=2)
        assert "pc1:eth9" in wrong.stderr
        full = user.wirelab("capture", lab_name, "-w", "/dev/full", status=1)
        assert "No space left" in full.stderr
    finally:
        user.wirelab("down", lab_name)


def test_capture_ends_with_its_lab(user: Person, lab_name: str) -> None:
    file = user.home / f"{lab_name}.pcapng"
    user.wirelab("up", "nat", "--name", lab_name)
    process = user.popen(
        user.argv("capture", lab_name, "-w", str(file)), stderr=subprocess.PIPE, start_new_session=True
    )
    assert process.stderr is not None
    assert "recording" in process.stderr.readline()
    user.wirelab("down", lab_name)
    process.communicate(timeout=20)
    assert file.stat().st_size > 0


def test_shell_on_a_terminal(user: Person, lab_name: str) -> None:
    """An interactive shell, typed at through a real terminal."""
    user.wirelab("up", "nat", "--name", lab_name)
    try:
        leader, follower = os.openpty()
        os.fchmod(follower, 0o666)
        process = user.popen(
            user.argv("shell", lab_name, "pc1"),
            stdin=follower,
            stdout=follower,
            stderr=follower,
            start_new_session=True,
        )
        os.close(follower)
        os.write(leader, b"echo $((6*7))-$(hostname)\nexit 3\n")
        said = b""

        def read_more() -> bool:
            nonlocal said
            try:
                said += os.read(leader, 4096)
            except OSError:
                return True
            return b"42-pc1" in said

        wait_until(read_more, "the shell answers")
        assert process.wait(20) == 3
        os.close(leader)
    finally:
        user.wirelab("down", lab_name)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(user: Person, shell: str) -> None:
    assert "wirelab" in user.wirelab("completion", shell).stdout


def test_completion_knows_words_labs_and_nodes(user: Person, lab_name: str) -> None:
    user.wirelab("up", "nat", "--name", lab_name)
    try:
        assert "verify" in complete(user, "wirelab ver")
        assert lab_name in complete(user, f"wirelab exec {lab_name[:3]}")
        assert "resolver" in complete(user, f"wirelab exec {lab_name} res")
    finally:
        user.wirelab("down", lab_name)


def complete(user: Person, line: str) -> list[str]:
    """What argcomplete offers at the end of `line`."""
    env = {
        **user.environment(),
        "_ARGCOMPLETE": "1",
        "_ARGCOMPLETE_IFS": "\n",
        "COMP_LINE": line,
        "COMP_POINT": str(len(line)),
        "_ARGCOMPLETE_STDOUT_FILENAME": str(user.home / "completions"),
    }
    code = "import sys; sys.argv[0] = 'wirelab'; from emulator.cli import main; main()"
    user.run([user.python, "-c", code], env=env)
    return [word.strip() for word in (user.home / "completions").read_text().split("\n")]


def test_plan_json_and_schema(user: Person) -> None:
    plan = json.loads(user.wirelab("plan", "nat", "--as", "json").stdout)
    assert plan["operations"][0]["op"] == "CreateNode"
    assert json.loads(user.wirelab("schema").stdout)["properties"]["nodes"]
