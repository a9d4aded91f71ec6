"""Labs of containers without sudo: an ordinary user who may use the engine, and one who may not."""

from __future__ import annotations

import json
import os
import pty
import select
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from emulator.commands.deputy import environment
from emulator.plan.containers import CAPABILITIES
from emulator.run import deputy
from emulator.run.kernel import capability_set
from tests.conftest import Person
from tests.docker.engines import Engine
from tests.live.conftest import processes, wait_until

TWO = """
name: two
nodes:
  a:
    backend: docker
    interfaces: {eth0: 10.0.0.1/24}
    services: {http: {pages: {/: "from a container\\n"}}}
  b: {interfaces: {eth0: 10.0.0.2/24}}
  sw: {kind: switch}
links: [[a:eth0, sw], [b:eth0, sw]]
"""

CHECKED = (
    TWO
    + """
scenes:
  - {name: page, steps: [{on: b, run: "curl -sS --max-time 3 http://{a.ip}/", id: page}]}
checks:
  - {name: carry, layer: physical, check: links-carry}
  - {name: page, layer: application, check: http-page, scene: page, client: "b:eth0", server: "a:eth0", step: page}
"""
)


@pytest.fixture
def member(user: Person, images: Engine) -> Person:
    """An ordinary user who is in the group that may use the engine."""
    group = os.stat(images.socket).st_gid
    assert group != 0, "the engine's socket belongs to a group of its own"
    return replace(user, env={**user.env, **images.env}, groups=(group,))


@pytest.fixture
def file(member: Person, lab_name: str) -> str:
    """A lab file of the user, with a container, a namespace and a switch."""
    return _file(member, f"{lab_name}.yml", CHECKED)


def _file(person: Person, name: str, text: str) -> str:
    path = person.home / name
    path.write_text(text)
    path.chmod(0o644)
    return str(path)


def containers(engine: Engine, person: Person) -> list[Any]:
    """All containers of the labs and deputies of `person`."""
    with closing(engine.client()) as client:
        found = client.api.containers(all=True, filters={"label": ["wirelab.run"]})
        return [one for one in found if one["Labels"]["wirelab.run"].startswith(f"{person.runs}/")]


def deputies(engine: Engine, person: Person) -> list[str]:
    """The deputies among them."""
    return [one["Id"] for one in containers(engine, person) if "/.deputy-" in one["Labels"]["wirelab.run"]]


@pytest.fixture
def nothing_left(member: Person, images: Engine, lab_name: str) -> Iterator[Callable[[], None]]:
    """Checks that nothing of the user's labs is left; done at the end too."""

    def check() -> None:
        wait_until(lambda: not containers(images, member), "no container")
        wait_until(lambda: not processes(f"{member.runs}/"), "no process")
        assert not member.runs.exists(), list(member.runs.iterdir())
        assert lab_name not in Path("/proc/self/mountinfo").read_text()

    yield check
    member.wirelab("down", lab_name, status=None)  # not all: other workers' labs are this user's, too
    check()


@pytest.mark.slow
def test_a_lab_of_containers(member: Person, images: Engine, lab_name: str, nothing_left: Callable[[], None]) -> None:
    up = member.json("up", "nat", "--name", lab_name, "--backend", "docker")
    assert up["name"] == lab_name and up["backend"] == "docker"
    (own,) = deputies(images, member)
    nodes = {one["Labels"]["wirelab.node"] for one in containers(images, member)} - {""}
    assert nodes == set(up["nodes"]) - {"sw", "core"}

    assert lab_name in [row["name"] for row in member.json("ps")]
    assert "192.168.1.10/24" in member.wirelab("ps", lab_name).stdout
    ran = member.run(
        member.argv("exec", lab_name, "pc1", "--", "sh", "-c", "cat; echo aside >&2; id -u; exit 7"),
        stdin=subprocess.PIPE, timeout=60,
    )  # fmt: skip
    assert (ran.returncode, ran.stdout, ran.stderr) == (7, "0\n", "aside\n")
    page = member.wirelab("exec", lab_name, "pc1", "--", "curl", "-sS", "-m5", "http://www.example.com/").stdout
    assert "You reached www.example.com" in page

    proof = member.json("verify", lab_name)
    assert (proof["pass"], proof["fail"], proof["unknown"]) == (25, 0, 0), proof
    told = member.wirelab("explain", lab_name, "pc1", "--", "ping", "-c1", "-W2", "192.0.2.80").stdout
    assert "1 received" in told and "home" in told

    member.wirelab("link", lab_name, "web:eth0", "down")
    member.wirelab("exec", lab_name, "pc1", "--", "curl", "-sS", "-m1", "http://192.0.2.80/", status=28)
    member.wirelab("link", lab_name, "web:eth0", "up")
    member.wirelab("exec", lab_name, "pc1", "--", "curl", "-sS", "-m5", "http://192.0.2.80/")

    assert deputies(images, member) == [own], "what enters the lab starts no other container"
    member.wirelab("down", lab_name)
    assert not containers(images, member)
    nothing_left()


def test_its_rights(member: Person, images: Engine, lab_name: str, file: str, nothing_left: Callable[[], None]) -> None:
    """The capabilities that are documented, the user's own id, and none of it for what runs in nodes."""
    member.wirelab("up", file, "--name", lab_name)
    (own,) = deputies(images, member)
    with closing(images.client()) as client:
        about = client.api.inspect_container(own)
    host = about["HostConfig"]
    wanted = {*CAPABILITIES, *deputy.CAPABILITIES}
    assert {name.removeprefix("CAP_") for name in host["CapAdd"]} == wanted and host["CapDrop"] == ["ALL"]
    assert host["Privileged"] is False and host["NetworkMode"] == "none" and host["ReadonlyRootfs"] is True
    assert not host["Binds"]
    status = _status(Path(f"/proc/{about['State']['Pid']}/status").read_text())
    assert status["Uid"].split() == [str(member.uid)] * 4
    assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == capability_set(wanted)

    in_container = _status(member.wirelab("exec", lab_name, "a", "--", "cat", "/proc/self/status").stdout)
    assert in_container["Uid"].split() == ["0"] * 4
    assert int(in_container["CapEff"], 16) == int(in_container["CapBnd"], 16) == capability_set(CAPABILITIES)
    assert int(in_container["CapInh"], 16) == int(in_container["CapAmb"], 16) == 0
    outside = _status(member.wirelab("exec", lab_name, "b", "--", "cat", "/proc/self/status").stdout)
    assert outside["Uid"].split() == [str(member.uid)] * 4, "a node that is no container sees the user's files"
    network = capability_set(("NET_ADMIN", "NET_BIND_SERVICE", "NET_RAW"))
    assert int(outside["CapEff"], 16) == int(outside["CapBnd"], 16) == network
    shadow = member.wirelab("exec", lab_name, "b", "--", "cat", "/etc/shadow", status=1)
    assert "denied" in shadow.stderr


def _status(text: str) -> dict[str, str]:
    return dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)


def test_files_are_the_users(member: Person, lab_name: str, file: str, nothing_left: Callable[[], None]) -> None:
    member.wirelab("up", file, "--name", lab_name)
    folder = member.home / lab_name
    folder.mkdir()
    os.chown(folder, member.uid, member.uid)
    recorder = member.popen(
        member.argv("capture", lab_name, "a:eth0", "-w", "here.pcapng", "--count", "2"),
        cwd=folder, stderr=subprocess.PIPE, preexec_fn=lambda: os.umask(0o027),
    )  # fmt: skip
    assert recorder.stderr is not None and "recording 1 interface" in recorder.stderr.readline()
    member.wirelab("exec", lab_name, "b", "--", "ping", "-c2", "-i0.1", "-W2", "10.0.0.1")
    assert recorder.wait(30) == 0
    recorder.stderr.close()
    made = folder / "here.pcapng"
    assert (made.stat().st_uid, made.stat().st_gid, made.stat().st_mode & 0o777) == (member.uid, member.uid, 0o640)
    piped = f"{member.python} -m emulator capture {lab_name} -w - --duration 1 | od -An -tx1 -N4"
    assert member.run(["sh", "-c", piped]).stdout.split() == ["0a", "0d", "0d", "0a"], "a pcapng begins with this"
    reports = member.wirelab("verify", lab_name, "--junit", "r.xml", "-w", "v.pcapng", cwd=folder)
    assert "2 passed" in reports.stdout
    assert {(folder / name).stat().st_uid for name in ("r.xml", "v.pcapng")} == {member.uid}
    assert (member.runs / lab_name / "log" / "a-http.log").stat().st_uid == member.uid

    closed = Path(tempfile.mkdtemp(prefix="wirelab-roots-"))
    try:
        closed.chmod(0o755)
        (closed / "mine").write_text("root's")
        for words in (("-w", "new"), ("-w", "mine"), ("-w", "mine", "--max-size", "1M", "--files", "2")):
            said = member.wirelab("capture", lab_name, *words, "--duration", "1", cwd=closed, status=1).stderr
            assert "Permission denied" in said
        said = member.wirelab("verify", lab_name, "--junit", "r.xml", cwd=closed, status=2).stderr
        assert "cannot write r.xml: Permission denied" in said
        assert [(entry.name, entry.read_text()) for entry in closed.iterdir()] == [("mine", "root's")]
    finally:
        shutil.rmtree(closed)


def test_for_wireshark(member: Person, lab_name: str, file: str, nothing_left: Callable[[], None]) -> None:
    """Its list of interfaces leads to a recording, and `--wireshark` to a Wireshark that has no rights itself."""
    member.wirelab("up", file, "--name", lab_name)
    pipe = member.home / f"{lab_name}.fifo"
    os.mkfifo(pipe)
    os.chown(pipe, member.uid, member.uid)
    program = "import sys; from emulator.commands.extcap import main; sys.exit(main(sys.argv[1:]))"
    words = ["--capture", "--extcap-interface", f"wirelab:{lab_name}:a:eth0", "--fifo", str(pipe)]
    extcap = member.popen([member.python, "-c", program, *words], stderr=subprocess.PIPE)
    with pipe.open("rb") as stream:
        assert stream.read(4) == b"\n\r\r\n"
        extcap.send_signal(signal.SIGTERM)
        assert b"a:eth0" in stream.read()
    assert (extcap.communicate(timeout=30)[1], extcap.returncode) == ("", 0)

    tools = member.home / f"{lab_name}-bin"
    tools.mkdir()
    seen = member.home / f"{lab_name}.seen"
    (tools / "wireshark").write_text(f"#!/bin/sh\ngrep CapEff /proc/self/status > {seen}\ncat >> {seen}\n")
    (tools / "wireshark").chmod(0o755)
    env = {**member.environment(), "PATH": f"{tools}:{member.environment()['PATH']}"}
    member.home.chmod(0o700)
    done = member.run(member.argv("capture", lab_name, "a", "--wireshark", "--duration", "1"), env=env)
    assert done.returncode == 0 and "recording 1 interface" in done.stderr, done.stderr
    wait_until(lambda: seen.exists() and b"\n\r\r\n" in seen.read_bytes(), "it got the recording")
    assert seen.read_bytes().startswith(b"CapEff:\t0000000000000000\n")


def test_a_verification_of_its_own(member: Person, images: Engine, file: str, nothing_left: Callable[[], None]) -> None:
    """Also where it comes out only when the file was read that there are containers, and of several labs at once."""
    assert member.json("verify", file)["pass"] == 2
    assert not containers(images, member) and not member.runs.exists(), "at once, not some time later"
    both = member.json("verify", file, str(member.installation / "labs" / "ethernet"), "--jobs", "1")
    assert [lab["fail"] for lab in both["labs"]] == [0, 0]
    wrong = _file(member, "wrong.yml", CHECKED.replace("/: ", "/other: "))
    assert member.wirelab("verify", wrong, "--backend", "docker", status=1).stdout
    assert "knd" in member.wirelab(
        "up", _file(member, "bad.yml", "name: x\nnodes: {a: {knd: host}}\n"), "--backend", "docker", status=2
    ).stderr  # fmt: skip


def test_further_capabilities(member: Person, images: Engine, lab_name: str, nothing_left: Callable[[], None]) -> None:
    """What a lab file asks for beyond the usual, a deputy has that was started for it alone, if the user agrees."""
    text = TWO.replace("  b: {", "  b: {backend: docker, cap-add: [SYS_NICE], ")
    file = _file(member, f"{lab_name}.yml", text)
    for backend in ((), ("--backend", "docker")):
        said = member.wirelab("up", file, "--name", lab_name, *backend, status=2).stderr
        assert "    b gets SYS_NICE\n" in said and "--allow-caps" in said
        assert not containers(images, member) and not member.runs.exists(), "nothing has been built"
        member.wirelab("up", file, "--name", lab_name, *backend, "--allow-caps")
        status = _status(member.wirelab("exec", lab_name, "b", "--", "cat", "/proc/self/status").stdout)
        assert int(status["CapEff"], 16) == capability_set((*CAPABILITIES, "SYS_NICE"))
        member.wirelab("down", lab_name)


def test_a_terminal(member: Person, lab_name: str, file: str, nothing_left: Callable[[], None]) -> None:
    """A shell has a terminal of its own, with our size; Ctrl-C reaches what runs in it, and its status comes out."""
    member.wirelab("up", file, "--name", lab_name)
    with _Screen(member, member.argv("shell", lab_name, "a"), rows=33, columns=99) as screen:
        screen.expect("a:/# ")
        screen.type("stty size\n")
        screen.expect("33 99")
        screen.type("sh -c 'echo be''gun; exec sleep 1000'\n")
        screen.expect("begun")
        screen.type("\x03")
        screen.expect("a:/# ")
        screen.type("echo it was $?\n")
        screen.expect("it was 130")
        screen.resize(40, 111)
        screen.type("stty size\n")
        screen.expect("40 111")
        screen.type("exit 5\n")
        assert screen.status() == 5


class _Screen:
    """A terminal, and a command in it."""

    def __init__(self, person: Person, argv: Sequence[str], rows: int, columns: int) -> None:
        self._ours, theirs = pty.openpty()
        self.resize(rows, columns)
        self._text = ""
        self._process = person.popen(
            argv, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True, preexec_fn=_own_terminal,
            env={**person.environment(), "TERM": "dumb"},
        )  # fmt: skip
        os.close(theirs)

    def __enter__(self) -> _Screen:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._ours)

    def resize(self, rows: int, columns: int) -> None:
        import termios

        termios.tcsetwinsize(self._ours, (rows, columns))

    def type(self, text: str) -> None:
        os.write(self._ours, text.encode())

    def has(self, text: str, timeout_s: float) -> bool:
        """Whether `text` appears in time; what was before it is forgotten then."""
        deadline = time.monotonic() + timeout_s
        while text not in self._text:
            if not select.select([self._ours], [], [], max(0, deadline - time.monotonic()))[0]:
                return False
            self._text += os.read(self._ours, 4096).decode()
        self._text = self._text.partition(text)[2]
        return True

    def expect(self, text: str) -> None:
        assert self.has(text, 30), self._text

    def status(self) -> int:
        return self._process.wait(30)


def _own_terminal() -> None:
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


@pytest.mark.parametrize(
    ("after", "number"),
    [
        *((after, signal.SIGKILL) for after in ("at once", "deputy", "lab", "container")),
        ("lab", signal.SIGTERM),
        ("container", signal.SIGINT),
    ],
)
def test_up_is_ended(
    member: Person, images: Engine, lab_name: str, file: str, after: str, number: int, nothing_left: Callable[[], None]
) -> None:
    """Wherever the calling process is ended, everything is taken back; at the latest the next command does it."""
    reached = {
        "at once": lambda: True,
        "deputy": lambda: bool(deputies(images, member)),
        "lab": (member.runs / lab_name).exists,
        "container": lambda: len(containers(images, member)) > 1,
    }[after]
    errors = member.home / f"{lab_name}.err"
    with errors.open("w") as stderr:
        up = member.popen(member.argv("up", file, "--name", lab_name), stdout=subprocess.DEVNULL, stderr=stderr)
        wait_until(lambda: reached() or up.poll() is not None, f"up came to: {after}", 60)
        up.send_signal(number)
        status = up.wait(60)
    if number == signal.SIGINT and after != "at once":
        assert status == 130 and "interrupted" in errors.read_text()
    if after in ("at once", "deputy") and number == signal.SIGKILL:
        member.wirelab("down", lab_name, status=None)
    nothing_left()


def test_exec_is_killed(member: Person, lab_name: str, file: str, nothing_left: Callable[[], None]) -> None:
    member.wirelab("up", file, "--name", lab_name)
    number = str(40_000 + os.getpid())
    command = member.popen(member.argv("exec", lab_name, "a", "--", "sleep", number))
    sleeping = lambda: any(_runs(entry, f"sleep\0{number}\0") for entry in Path("/proc").iterdir())  # noqa: E731
    wait_until(sleeping, "it runs")
    command.kill()
    command.wait()
    wait_until(lambda: not sleeping(), "it ended with the command that started it")
    member.wirelab("exec", lab_name, "a", "--", "true")


def _runs(entry: Path, line: str) -> bool:
    try:
        return (entry / "cmdline").read_bytes() == line.encode()
    except OSError:
        return False


def test_the_deputy_is_killed(
    member: Person, images: Engine, lab_name: str, file: str, nothing_left: Callable[[], None]
) -> None:
    """The engine ends all that runs in its container then, the lab too; `ps` shows what is left, `down` removes it."""
    member.wirelab("up", file, "--name", lab_name)
    (own,) = deputies(images, member)
    with closing(images.client()) as client:
        os.kill(client.api.inspect_container(own)["State"]["Pid"], signal.SIGKILL)
    wait_until(lambda: not deputies(images, member), "the engine has removed it")
    wait_until(lambda: not processes(f"{member.runs}/"), "no process")
    assert [row["left_behind"] for row in member.json("ps") if row["name"] == lab_name] == [1]
    gone = member.wirelab("exec", lab_name, "a", "--", "true", status=2)
    assert f"no lab called {lab_name}" in gone.stderr
    assert "1 container that it left behind removed" in member.wirelab("down", lab_name).stdout
    nothing_left()


def test_a_command_whose_deputy_is_killed(
    member: Person, images: Engine, lab_name: str, file: str, nothing_left: Callable[[], None]
) -> None:
    member.wirelab("up", file, "--name", lab_name)
    (own,) = deputies(images, member)
    command = member.popen(
        member.argv("exec", lab_name, "a", "--", "sh", "-c", "echo here; exec sleep 100"),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert command.stdout is not None and command.stdout.readline() == "here\n"
    with closing(images.client()) as client:
        client.api.kill(own)
    said = command.communicate(timeout=30)[1]
    assert command.returncode == 1 and "was killed" in said and "Traceback" not in said


def test_no_access(user: Person, member: Person, images: Engine, lab_name: str) -> None:
    """Without the group there is one clear error; and the labs of who has it are out of reach anyway."""
    stranger = replace(user, env={**user.env, **images.env})
    for words in (("up", "nat", "--name", lab_name), ("verify", "nat")):
        said = stranger.wirelab(*words, "--backend", "docker", status=3).stderr
        assert said.startswith("wirelab: no access to the Docker Engine") and "usermod -aG docker" in said
        assert len(said.splitlines()) == 2
    assert not member.runs.exists()


def test_elsewhere(member: Person, images: Engine, nothing_left: Callable[[], None]) -> None:
    """Where process ids are not the machine's, as in a container, a deputy would see a stranger's files: it refuses."""
    become = ["setpriv", "--reuid", str(member.uid), "--regid", str(member.uid), "--groups", str(member.groups[0])]
    argv = ["unshare", "--pid", "--fork", "--mount-proc", *become, *member.argv("up", "nat", "--backend", "docker")]
    done = subprocess.run(
        argv, capture_output=True, text=True, env=member.environment(), cwd=member.home, check=False, timeout=120
    )
    assert done.returncode == 3 and "the engine's containers cannot get it here" in done.stderr, done.stderr


def test_root_without_rights(member: Person, root: Person, images: Engine) -> None:
    argv = ["setpriv", "--bounding-set=-sys_admin", *root.argv("up", "nat", "--backend", "docker")]
    done = root.run(argv, env={**root.environment(), **images.env})
    assert done.returncode == 3 and "CAP_SYS_ADMIN" in done.stderr, done.stderr


def test_no_image(member: Person, images: Engine, nothing_left: Callable[[], None]) -> None:
    """An installation of another version, whose images were never built."""
    other = member.home / "other"
    other.mkdir(exist_ok=True)
    subprocess.run(["cp", "-r", str(member.installation / "emulator"), str(other)], check=True)
    (other / "emulator" / "version.py").write_text('VERSION = "9.9.9"\n')
    env = {**member.environment(), "PYTHONPATH": f"{other}{os.pathsep}{member.installation / 'packages'}"}
    subprocess.run(["chmod", "-R", "a+rX", str(other)], check=True)
    source = str(member.installation / "labs" / "ping")
    done = member.run(member.argv("up", source, "--backend", "docker"), env=env)
    assert done.returncode == 3, done.stderr
    assert "no image wirelab/base:9.9.9" in done.stderr and "make images" in done.stderr


def test_from_python(member: Person, lab_name: str, file: str, nothing_left: Callable[[], None]) -> None:
    """The library does not hand itself to a deputy: the error says so."""
    program = f"import emulator\nemulator.up({file!r}, name={lab_name!r})"
    done = member.run([member.python, "-c", program])
    assert "RightsLacking" in done.stderr and "takes root" in done.stderr
    member.wirelab("up", file, "--name", lab_name)
    done = member.run([member.python, "-c", f"import emulator\nemulator.attach({lab_name!r})"])
    assert "RightsLacking" in done.stderr


def test_environment() -> None:
    own = {"PATH": "/bin", "HOME": "/h", "LC_ALL": "C", "PYTHONPATH": "/p", "LD_PRELOAD": "/x.so", "SECRET": "1"}
    assert environment(own) == {"PATH": "/bin", "HOME": "/h", "LC_ALL": "C", "PYTHONPATH": "/p"}


def test_wrong_errands(member: Person, lab_name: str, file: str, nothing_left: Callable[[], None]) -> None:
    """Nobody ends a lab by asking its deputy wrongly."""
    member.wirelab("up", file, "--name", lab_name)
    folder = Path(os.readlink(member.runs / lab_name / deputy.LINK))
    for message in (b"{", b"[]", b'{"run": true}', b'{"signal": 9}', b'{"run": true, "x"', json.dumps("x").encode()):
        with deputy.connect(folder) as connection:
            connection.send(message)
    member.wirelab("exec", lab_name, "a", "--", "true")
