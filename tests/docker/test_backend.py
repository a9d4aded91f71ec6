"""Labs of containers: the same lab files, commands and verdicts as with namespaces, on an engine of the tests' own."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from emulator.lab.load import load
from emulator.plan.containers import CAPABILITIES
from emulator.run.kernel import capability_set
from tests.conftest import ROOT, Person
from tests.docker.engines import Engine
from tests.live.conftest import LABS
from tests.live.traces import NIGHTLY

MINI = """
name: mini
nodes:
  a:
    interfaces: {eth0: 10.0.0.1/24}
    services: {http: {pages: {/: "from a container\\n"}}}
  b: {interfaces: {eth0: 10.0.0.2/24}}
  sw: {kind: switch}
links: [[a:eth0, sw], [b:eth0, sw]]
"""


def labels(engine: Engine, lab: str) -> dict[str, Any]:
    """The containers of `lab` by their nodes."""
    with closing(engine.client()) as client:
        found = client.containers.list(all=True, filters={"label": [f"wirelab.lab={lab}"]}, ignore_removed=True)
        return {container.labels["wirelab.node"]: container for container in found}


def of_home(engine: Engine, person: Person) -> list[str]:
    """The names of all containers of labs of `person`, whatever the labs are called."""
    with closing(engine.client()) as client:
        found = client.api.containers(all=True, filters={"label": ["wirelab.run"]})
        return [one["Names"][0] for one in found if one["Labels"]["wirelab.run"].startswith(f"{person.runs}/")]


@pytest.fixture
def gone(docker: Person, images: Engine, lab_name: str) -> Any:
    """Takes the lab down at the end, and checks that nothing of it is left in the engine."""
    yield
    docker.wirelab("down", lab_name, status=None)
    assert labels(images, lab_name) == {}
    assert not list(docker.runs.glob(f"*{lab_name}*"))


def lab_file(docker: Person, name: str, text: str) -> str:
    path = docker.home / f"{name}.yml"
    path.write_text(text)
    return str(path)


def test_the_same_verdicts(docker: Person, lab_name: str, images: Engine, gone: None) -> None:
    up = docker.json("up", "nat", "--name", lab_name, "--backend", "docker")
    assert sorted(labels(images, lab_name)) == sorted(set(up["nodes"]) - {"sw", "core"})
    inside = docker.json("verify", lab_name)
    outside = docker.json("verify", "nat")
    assert [(c["name"], c["verdict"]) for c in inside["checks"]] == [
        (c["name"], c["verdict"]) for c in outside["checks"]
    ]
    assert inside["fail"] == inside["unknown"] == 0
    again = docker.json("verify", lab_name)
    assert again["pass"] == inside["pass"]
    table = docker.wirelab("ps", lab_name).stdout
    assert "192.168.1.10/24" in table and "dnsmasq" in table
    docker.wirelab("link", lab_name, "web:eth0", "down")
    cut = docker.wirelab("exec", lab_name, "pc1", "--", "curl", "-sS", "-m", "1", "http://192.0.2.80/", status=None)
    assert cut.returncode != 0
    docker.wirelab("link", lab_name, "web:eth0", "up")
    page = docker.wirelab("exec", lab_name, "pc1", "--", "curl", "-sS", "-m", "5", "http://192.0.2.80/").stdout
    assert "You reached www.example.com" in page
    docker.wirelab("down", lab_name)
    assert labels(images, lab_name) == {}


def _twins() -> list[tuple[str, str]]:
    """In `make nightly` all of all labs, in `make test` one of a patched file and one of steps."""
    if not NIGHTLY:
        return [("two-lans", "no-snat"), ("ping", "dns-dead")]
    return [(lab, twin) for lab in LABS for twin in load(ROOT / "labs" / lab).spec.break_]


@pytest.mark.parametrize(("lab", "twin"), _twins())
def test_a_twin_breaks_the_same_checks(docker: Person, lab: str, twin: str, images: Engine) -> None:
    answer = docker.json("verify", lab, "--break", twin, "--backend", "docker", status=1)
    assert answer["break"]["as_meant"], answer
    assert of_home(images, docker) == []


@pytest.mark.parametrize("lab", LABS if NIGHTLY else ["ipv6", "sockets", "two-lans"])
def test_other_labs(docker: Person, lab: str) -> None:
    answer = docker.json("verify", lab, "--backend", "docker")
    assert answer["fail"] == answer["unknown"] == 0 < answer["pass"]


def test_a_process_of_a_node_is_one_of_the_container(docker: Person, lab_name: str, images: Engine, gone: None) -> None:
    docker.wirelab("up", lab_file(docker, lab_name, MINI), "--name", lab_name, "--backend", "docker")
    found = labels(images, lab_name)
    with closing(images.client()) as client:
        processes = client.api.top(found["a"].id)["Processes"]
        about = client.api.inspect_container(found["a"].id)
    assert any("httpd" in " ".join(row) for row in processes)
    assert about["HostConfig"]["Privileged"] is False and about["HostConfig"]["NetworkMode"] == "none"
    assert about["HostConfig"]["CapDrop"] == ["ALL"]
    assert sorted(about["HostConfig"]["CapAdd"]) == sorted(CAPABILITIES)
    run = lambda *argv, **options: docker.wirelab("exec", lab_name, "a", "--", *argv, **options)  # noqa: E731
    status = dict(line.split(":\t", 1) for line in run("cat", "/proc/self/status").stdout.splitlines() if ":\t" in line)
    wanted = capability_set(CAPABILITIES)
    assert int(status["CapBnd"], 16) == int(status["CapEff"], 16) == wanted
    assert int(status["CapInh"], 16) == int(status["CapAmb"], 16) == 0
    first = Path(f"/proc/{about['State']['Pid']}")
    assert first.joinpath("cgroup").read_text() == run("cat", "/proc/self/cgroup").stdout
    assert "httpd" in run("ps", "ax").stdout
    run("sysctl", "-qw", "net.ipv4.ip_default_ttl=63")
    assert run("sysctl", "-qw", "kernel.panic=1", status=None).returncode != 0
    assert run("hostname").stdout == "a\n"
    assert "10.0.0.1 a" in run("cat", "/etc/hosts").stdout


def test_exec_and_shell(docker: Person, lab_name: str, gone: None) -> None:
    docker.wirelab("up", lab_file(docker, lab_name, MINI), "--name", lab_name, "--backend", "docker")
    assert docker.wirelab("exec", lab_name, "b", "--", "sh", "-c", "exit 7", status=7).stdout == ""
    assert docker.wirelab("exec", lab_name, "b", "--", "sh", "-c", "kill -9 $$", status=137)
    lacking = docker.wirelab("exec", lab_name, "b", "--", "no-such-program", status=3)
    assert "no program no-such-program" in lacking.stderr
    assert docker.wirelab("exec", lab_name, "sw", "--", "bridge", "fdb").stdout
    pages = docker.wirelab("exec", lab_name, "b", "--", "curl", "-s", "http://10.0.0.1/").stdout
    assert pages == "from a container\n"
    echo = docker.run(docker.argv("exec", lab_name, "b", "--", "cat"), stdin=subprocess.PIPE, timeout=30)
    assert echo.returncode == 0
    shell = docker.popen(
        docker.argv("shell", lab_name, "b"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert "10.0.0.2" in shell.communicate("ip address\nexit\n", timeout=60)[0]


def test_a_mixed_lab(docker: Person, lab_name: str, images: Engine, gone: None) -> None:
    text = MINI.replace("  b: {", "  b: {backend: docker, ")
    docker.wirelab("up", lab_file(docker, lab_name, text), "--name", lab_name)
    assert list(labels(images, lab_name)) == ["b"]
    assert docker.wirelab("exec", lab_name, "b", "--", "curl", "-s", "http://10.0.0.1/").stdout == "from a container\n"
    assert docker.wirelab("exec", lab_name, "a", "--", "ping", "-c1", "-W2", "10.0.0.2").returncode == 0
    held = docker.wirelab("exec", lab_name, "a", "--", "cat", "/proc/self/status").stdout
    assert f"CapEff:\t{capability_set(CAPABILITIES):016x}" in held, "no more rights than in a container"
    seen = docker.wirelab("exec", lab_name, "a", "--", "ps", "ax").stdout
    assert "httpd" in seen and "pytest" not in seen


def test_a_node_may_stay_a_namespace(docker: Person, lab_name: str, images: Engine, gone: None) -> None:
    text = MINI.replace("  b: {", "  b: {backend: netns, ")
    docker.wirelab("up", lab_file(docker, lab_name, text), "--name", lab_name, "--backend", "docker")
    assert list(labels(images, lab_name)) == ["a"]


def test_limits_and_settings(docker: Person, lab_name: str, images: Engine, gone: None) -> None:
    shown = docker.home / "shown"
    shown.mkdir(exist_ok=True)
    (shown / "text").write_text("of this machine\n")
    text = MINI.replace(
        "  b: {",
        "  b: {cpus: 0.5, memory: 64M, user: nobody, env: {COLOUR: blue}, cap-add: [SYS_NICE], "
        "cmd: [sleep, '4711'], sysctls: {net.ipv4.ip_default_ttl: 77}, binds: ['./shown:/srv/shown:ro'], ",
    )
    file = lab_file(docker, lab_name, text)
    refused = docker.wirelab("up", file, "--name", lab_name, "--backend", "docker", "--allow-caps", status=2)
    assert "--allow-binds" in refused.stderr and f"b gets the folder {shown} at /srv/shown, to read\n" in refused.stderr
    docker.wirelab("up", file, "--name", lab_name, "--backend", "docker", "--allow-binds", "--allow-caps")
    found = labels(images, lab_name)["b"]
    with closing(images.client()) as client:
        host = client.api.inspect_container(found.id)["HostConfig"]
        processes = client.api.top(found.id)["Processes"]
    assert (host["NanoCpus"], host["Memory"]) == (500_000_000, 64 << 20)
    assert any("sleep 4711" in " ".join(row) for row in processes)
    run = lambda *argv, **options: docker.wirelab("exec", lab_name, "b", "--", *argv, **options)  # noqa: E731
    assert run("sh", "-c", "id -un; echo $COLOUR").stdout == "nobody\nblue\n"
    assert run("sysctl", "-n", "net.ipv4.ip_default_ttl").stdout == "77\n"
    assert run("cat", "/srv/shown/text").stdout == "of this machine\n"
    assert run("touch", "/srv/shown/new", status=None).returncode != 0
    hungry = "import os; x = bytearray(200 << 20); print(len(x))"
    assert run("python3", "-c", hungry, status=None).returncode == 137


def test_capabilities_over_the_machine_need_agreement(
    docker: Person, lab_name: str, images: Engine, gone: None
) -> None:
    """A foreign file with a capability such as SYS_MODULE would be root on the machine by a plain `up`."""
    text = MINI.replace("  b: {", "  b: {backend: docker, cap-add: [FOWNER, SYS_MODULE, SYS_TIME], ")
    file = lab_file(docker, lab_name, text)
    for words in (("up", file, "--name", lab_name), ("verify", file), ("up", file, "--allow-binds")):
        said = docker.wirelab(*words, status=2).stderr
        assert "you did not agree:\n    b gets SYS_MODULE, SYS_TIME\n" in said and "--allow-caps" in said
    assert labels(images, lab_name) == {} and not (docker.runs / lab_name).exists()
    docker.wirelab("up", file, "--name", lab_name, "--allow-caps")
    held = docker.wirelab("exec", lab_name, "b", "--", "cat", "/proc/self/status").stdout
    assert f"CapEff:\t{capability_set((*CAPABILITIES, 'FOWNER', 'SYS_MODULE', 'SYS_TIME')):016x}" in held


def test_harmless_capabilities_need_none(docker: Person, lab_name: str, gone: None) -> None:
    text = MINI.replace("  b: {", "  b: {backend: docker, cap-add: [FOWNER, SETFCAP, NET_RAW], ")
    docker.wirelab("up", lab_file(docker, lab_name, text), "--name", lab_name)
    held = docker.wirelab("exec", lab_name, "b", "--", "cat", "/proc/self/status").stdout
    assert f"CapEff:\t{capability_set((*CAPABILITIES, 'FOWNER', 'SETFCAP')):016x}" in held


def test_a_switch_is_never_a_container(docker: Person, lab_name: str) -> None:
    file = lab_file(docker, lab_name, MINI.replace("kind: switch", "kind: switch, image: debian"))
    wrong = docker.wirelab("up", file, status=2)
    assert f"{file}:8:" in wrong.stderr and "a switch is never a container" in wrong.stderr


def test_a_container_that_ends_at_once(docker: Person, lab_name: str, images: Engine) -> None:
    text = MINI.replace("  b: {", "  b: {cmd: [sh, -c, 'echo no reason; exit 3'], ")
    said = docker.wirelab(
        "up", lab_file(docker, lab_name, text), "--name", lab_name, "--backend", "docker", status=1
    ).stderr
    assert "create the node b" in said and "status 3" in said and "no reason" in said
    assert labels(images, lab_name) == {}


def test_a_lacking_image(docker: Person, lab_name: str) -> None:
    text = MINI.replace("  b: {", "  b: {image: 'wirelab/none:0', ")
    said = docker.wirelab("up", lab_file(docker, lab_name, text), status=3).stderr
    assert "no image wirelab/none:0" in said and "make images" in said


@pytest.mark.parametrize(
    ("host", "words"),
    [
        ("unix:///nowhere/docker.sock", "no Docker Engine answers at /nowhere/docker.sock"),
        ("tcp://192.0.2.1:2375", "the engine must be on this machine"),
    ],
)
def test_no_engine(docker: Person, host: str, words: str) -> None:
    env = {**docker.environment(), "DOCKER_HOST": host}
    done = docker.run(docker.argv("up", "nat", "--backend", "docker"), env=env)
    assert done.returncode == 3 and words in done.stderr and "hint:" in done.stderr


def test_no_access_to_the_engine(user: Person, images: Engine) -> None:
    env = {**user.environment(), **images.env}
    done = user.run(user.argv("up", "nat", "--backend", "docker"), env=env)
    assert done.returncode == 3 and "no access to the Docker Engine" in done.stderr and "docker" in done.stderr
    assert user.run(user.argv("ps"), env=env).returncode == 0, "who has no access has nothing there"


def test_rules_of_docker_do_not_break_a_lab(root: Person, engine_with_default_rules: Engine, lab_name: str) -> None:
    """Docker drops what bridges forward where its rules are (FORWARD policy). Wirelab is started there, and its labs'
    bridges are elsewhere; one that is made by hand there loses everything, until a rule is made for it."""
    there = ("nsenter", "--target", str(engine_with_default_rules.guard), "--net")
    rules = subprocess.run([*there, "iptables", "-S", "FORWARD"], capture_output=True, text=True, check=True).stdout
    assert "-P FORWARD DROP" in rules
    person = replace(root, env=engine_with_default_rules.env, before=there)
    person.wirelab("up", lab_file(person, lab_name, MINI), "--name", lab_name, "--backend", "docker")
    try:
        assert person.wirelab("exec", lab_name, "b", "--", "ping", "-c1", "-W5", "10.0.0.1").returncode == 0
        assert person.wirelab("exec", lab_name, "b", "--", "curl", "-s", "http://10.0.0.1/").stdout
    finally:
        person.wirelab("down", lab_name)


def test_rules_of_docker_break_a_bridge_by_hand(engine_with_default_rules: Engine) -> None:
    """The twin of the test above."""
    there = ["nsenter", "--target", str(engine_with_default_rules.guard), "--net"]
    if subprocess.run([*there, "sysctl", "-n", "net.bridge.bridge-nf-call-iptables"], check=False).returncode != 0:
        pytest.skip("bridged frames pass no rules here (the kernel module br_netfilter)")

    def run(*words: str, pid: int | None = None) -> int:
        before = there if pid is None else ["nsenter", "--target", str(pid), "--net"]
        return subprocess.run([*before, *words], stdout=subprocess.DEVNULL, check=False).returncode

    bridge = f"b{os.getpid()}"
    rule = ("FORWARD", "-i", bridge, "-j", "ACCEPT")
    with contextlib.ExitStack() as stack:
        hosts = [stack.enter_context(_host()) for _ in range(2)]
        assert run("sysctl", "-qw", "net.bridge.bridge-nf-call-iptables=1") == 0
        assert run("ip", "link", "add", bridge, "up", "type", "bridge") == 0
        stack.callback(run, "ip", "link", "del", bridge)
        for number, host in enumerate(hosts, 1):
            port = f"{bridge}p{number}"
            assert run("ip", "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", str(host)) == 0
            assert run("ip", "link", "set", port, "up", "master", bridge) == 0
            assert run("ip", "address", "add", f"10.77.0.{number}/24", "dev", "eth0", pid=host) == 0
            assert run("ip", "link", "set", "eth0", "up", pid=host) == 0
        assert run("ping", "-c1", "-W2", "10.77.0.2", pid=hosts[0]) == 1
        assert run("iptables", "-I", *rule) == 0
        stack.callback(run, "iptables", "-D", *rule)
        assert run("ping", "-c1", "-W10", "10.77.0.2", pid=hosts[0]) == 0


@contextlib.contextmanager
def _host() -> Iterator[int]:
    """A process in a network namespace of its own."""
    with subprocess.Popen(["unshare", "--net", "sh", "-c", "echo; read wait"], stdin=-1, stdout=-1) as process:
        assert process.stdout is not None and process.stdout.read(1)
        yield process.pid
        process.communicate()


@pytest.mark.skipif(shutil.which("docker") is None, reason="there is no program docker for the script")
def test_the_plan_as_a_script(docker: Person, lab_name: str, images: Engine) -> None:
    file = lab_file(docker, lab_name, MINI)
    script = docker.wirelab("plan", file, "--backend", "docker", "--as", "sh").stdout
    assert "--network none" in script and "--cap-drop ALL" in script
    path = docker.home / f"{lab_name}.sh"
    path.write_text(script)
    done = docker.run(["sh", str(path), "in_node", "b", "curl", "-s", "http://10.0.0.1/"], timeout=180)
    assert (done.returncode, done.stdout) == (0, "from a container\n"), done.stderr
    with closing(images.client()) as client:
        assert not client.containers.list(all=True, filters={"label": ["wirelab.script"]})


def test_faults_of_containers(docker: Person, lab_name: str, images: Engine, gone: None) -> None:
    docker.wirelab("up", lab_file(docker, lab_name, MINI), "--name", lab_name, "--backend", "docker")
    before = labels(images, lab_name)["b"].id
    ping = lambda status: docker.wirelab(  # noqa: E731
        "exec", lab_name, "a", "--", "ping", "-n", "-c", "1", "-W", "1", "10.0.0.2", status=status
    )
    ping(0)
    docker.wirelab("exec", lab_name, "b", "--", "touch", "/var/tmp/kept", "/tmp/lost")
    docker.wirelab("fault", lab_name, "freeze", "b")
    assert "b is frozen" in docker.wirelab("exec", lab_name, "b", "--", "true", status=1).stderr
    ping(1)
    docker.wirelab("fault", lab_name, "continue", "b")
    ping(0)
    docker.wirelab("fault", lab_name, "kill", "b")
    assert "b is off" in docker.wirelab("exec", lab_name, "b", "--", "true", status=1).stderr
    ping(1)
    docker.wirelab("fault", lab_name, "restart", "b")
    ping(0)
    assert labels(images, lab_name)["b"].id == before, "the same container"
    docker.wirelab("exec", lab_name, "b", "--", "sh", "-c", "test -e /var/tmp/kept && ! test -e /tmp/lost")
    docker.wirelab("fault", lab_name, "kill", "b")
    docker.wirelab("fault", lab_name, "heal")
    ping(0)
    assert docker.json("fault", lab_name)["faults"] == []
