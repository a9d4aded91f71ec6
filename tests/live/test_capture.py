"""`wirelab capture` as a person uses it: places, filters, limits, what appears meanwhile, and how it ends."""

from __future__ import annotations

import os
import pty
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from emulator.capture import bpf
from emulator.capture.decode import decode
from emulator.capture.frame import Frame
from emulator.capture.pcapng import Capture, read
from tests.conftest import Person
from tests.live.conftest import processes, wait_until

pytestmark = pytest.mark.warm

LAB = """\
name: two
nodes:
  pc1: {kind: host, interfaces: {eth0: [10.0.0.1/24, "2001:db8::1/64"]}}
  pc2: {kind: host, interfaces: {eth0: [10.0.0.2/24, "2001:db8::2/64"]}}
  pc3: {kind: host, interfaces: {eth0: dhcp}}
  sw: {kind: switch}
  gw:
    kind: router
    interfaces: {eth0: 10.0.0.254/24}
    services: {dnsmasq: {dhcp: [{interface: eth0, range: 10.0.0.100-10.0.0.120}]}}
links: [[pc1, sw], [pc2, sw], [pc3, sw], [gw, sw]]
"""
TOOLS = pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark is not installed")
FILTERS = pytest.mark.skipif(bpf._library() is None, reason="libpcap is not installed")


@contextmanager
def running(user: Person, name: str) -> Iterator[str]:
    """A lab of three hosts, a switch and a router."""
    folder = user.home / name
    folder.mkdir()
    (folder / "lab.yml").write_text(LAB)
    folder.chmod(0o755)
    user.wirelab("up", str(folder), "--name", name)
    yield name
    user.wirelab("down", name, status=None)
    place = str(user.runs / name)
    wait_until(lambda: not processes(place + " "), f"no process of {name}")


@pytest.fixture(scope="module")
def lab(people: dict[str, Person]) -> Iterator[str]:
    """A running lab that the tests of this module share, and leave as it was."""
    with running(people["user"], f"c{os.getpid()}") as name:
        yield name


@pytest.fixture
def own_lab(user: Person, lab_name: str) -> Iterator[str]:
    """A running lab for one test, which may change it."""
    with running(user, lab_name) as name:
        yield name


class Recording:
    """A `wirelab capture` that runs."""

    def __init__(self, process: subprocess.Popen[str], file: Path) -> None:
        self.process = process
        self.file = file
        self.said = ""

    def end(self, how: signal.Signals | None = signal.SIGINT, status: int = 0) -> Capture:
        """End it, or wait for its end; what it recorded."""
        if how is not None:
            self.process.send_signal(how)
        _, said = self.process.communicate(timeout=30)
        self.said += said
        assert self.process.returncode == status, self.said
        assert "Traceback" not in self.said
        return read(self.file)

    def recorder(self) -> int:
        """The process that records."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return int(children[0])


@contextmanager
def recording(user: Person, lab: str, *words: str) -> Iterator[Recording]:
    """Record until the end of the block at the latest."""
    file = user.home / f"{lab}.pcapng"
    process = user.popen(
        user.argv("capture", lab, *words, "-w", str(file)), stderr=subprocess.PIPE, start_new_session=True
    )
    try:
        assert process.stderr is not None
        made = Recording(process, file)
        made.said = process.stderr.readline()
        assert "recording" in made.said, made.said + process.stderr.read()
        yield made
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()
        file.unlink(missing_ok=True)


def at(user: Person, lab: str, node: str, *command: str) -> str:
    return user.wirelab("exec", lab, node, "--", *command).stdout


def ping(user: Person, lab: str, count: int = 2, to: str = "10.0.0.2") -> None:
    at(user, lab, "pc1", "ping", "-q", "-c", str(count), "-i", "0.05", to)


def frames(capture: Capture, *layers: str) -> list[Frame]:
    return [frame for frame in decode(capture.packets, capture.interfaces) if set(layers) <= set(frame.layers)]


def grown(recording: Recording) -> Callable[[], bool]:
    """Whether the file is larger than it is now."""
    size = recording.file.stat().st_size
    return lambda: recording.file.stat().st_size > size


def names(capture: Capture) -> list[str]:
    return [interface.name for interface in capture.interfaces]


def test_a_link_is_both_its_ends(user: Person, lab: str) -> None:
    with recording(user, lab, "sw--pc1", "gw:eth0") as made:
        ping(user, lab)
        capture = made.end()
    assert sorted(names(capture)) == ["gw:eth0", "pc1:eth0", "sw:pc1"]
    assert all(interface.mac for interface in capture.interfaces)
    assert {frame.interface for frame in frames(capture, "icmp")} == {"pc1:eth0", "sw:pc1"}
    assert [packet.time_ns for packet in capture.packets] == sorted(packet.time_ns for packet in capture.packets)
    wrong = user.wirelab("capture", lab, "pc1--gw", "-w", "-", status=2, stdout=subprocess.PIPE)
    assert f"the lab {lab} has no link pc1--gw" in wrong.stderr


def test_the_file_knows_the_names_of_all_nodes(user: Person, lab: str) -> None:
    """Those of nodes that are not recorded too, those by lease, and of both families."""
    with recording(user, lab, "pc1") as made:
        capture = made.end()
    leased = user.json("ps", lab)["nodes"][2]["interfaces"]["eth0"]["addresses"][0].partition("/")[0]
    expected = {"10.0.0.1": "pc1", "10.0.0.2": "pc2", "10.0.0.254": "gw", leased: "pc3", "2001:db8::1": "pc1"}
    assert expected.items() <= capture.names.items()
    assert capture.names["2001:db8::2"] == "pc2"
    assert not {"127.0.0.1", "::1"} & set(capture.names)


def test_an_address_that_comes_later_has_its_name(user: Person, own_lab: str) -> None:
    with recording(user, own_lab, "pc1") as made:
        at(user, own_lab, "pc2", "ip", "address", "add", "10.0.0.77/24", "dev", "eth0")
        at(user, own_lab, "pc3", "ip", "address", "add", "10.0.0.1/24", "dev", "eth0")
        ping(user, own_lab, to="10.0.0.77")
        capture = made.end()
    assert capture.names["10.0.0.77"] == "pc2"
    assert capture.names["10.0.0.1"] == "pc1|pc3"


def test_an_interface_that_appears_and_goes_is_recorded(user: Person, own_lab: str) -> None:
    with recording(user, own_lab, "pc1") as made:
        for command in (
            "ip link add v0 type veth peer name v1", "ip address add 10.9.0.1/24 dev v0", "ip link set v1 up",
            "ip link set v0 up",
        ):  # fmt: skip
            at(user, own_lab, "pc1", *command.split())
        appeared = grown(made)
        user.wirelab("exec", own_lab, "pc1", "--", "ping", "-c", "3", "-i", "0.1", "-W", "1", "10.9.0.9", status=None)
        wait_until(appeared, "the file grew")
        at(user, own_lab, "pc1", "ip", "link", "delete", "v0")
        time.sleep(0.6)
        ping(user, own_lab)
        capture = made.end()
    assert "none lost" in made.said
    assert names(capture)[0] == "pc1:eth0"
    assert sorted(names(capture)[1:]) == ["pc1:v0", "pc1:v1"]
    asked = [frame for frame in frames(capture, "arp") if frame.get("arp.dst.proto_ipv4") == "10.9.0.9"]
    assert {(frame.interface, frame.direction) for frame in asked} == {("pc1:v0", "out"), ("pc1:v1", "in")}
    assert len(frames(capture, "icmp")) == 4
    for interface in capture.interfaces:
        count = sum(capture.interfaces[packet.interface] == interface for packet in capture.packets)
        assert (interface.received, interface.dropped) == (count, 0)
    assert capture.truncated is None


def test_an_interface_that_gets_another_name_is_recorded_under_it(user: Person, own_lab: str) -> None:
    with recording(user, own_lab, "pc1") as made:
        at(user, own_lab, "pc1", "ip", "link", "add", "v0", "type", "veth", "peer", "name", "v1")
        at(user, own_lab, "pc1", "ip", "link", "set", "v1", "name", "uplink")
        wait_until(lambda: "pc1:uplink" in names(read(made.file)), "the new name is in the file")
        capture = made.end()
    assert {"pc1:v0", "pc1:uplink"} <= set(names(capture))


def test_only_what_was_named_is_recorded_when_more_appears(user: Person, own_lab: str) -> None:
    with recording(user, own_lab, "pc1:eth0") as made:
        at(user, own_lab, "pc1", "ip", "link", "add", "v0", "type", "veth", "peer", "name", "v1")
        ping(user, own_lab)
        capture = made.end()
    assert names(capture) == ["pc1:eth0"]


NEW_NODE = """
import json, os, sys
from pathlib import Path
from emulator.run import kernel, runs
from emulator.run.control import Control, enter_user
folder = runs.directory(sys.argv[1])
with Control(folder) as control:
    enter_user(control.own_spaces())
    kernel.unshare(kernel.CLONE_NEWNET)
    control.ask("add-nodes", (os.open("/proc/self/ns/net", os.O_RDONLY),), nodes=["late"])
facts = runs.facts(folder)
facts["nodes"]["late"] = {"kind": "host", "about": "", "env": {}, "interfaces": {}}
runs.write_facts(folder, facts)
"""


def test_a_node_that_appears_is_recorded(user: Person, own_lab: str) -> None:
    with recording(user, own_lab) as made:
        user.run([user.python, "-c", NEW_NODE, own_lab])
        at(user, own_lab, "late", "ip", "link", "add", "v0", "type", "veth", "peer", "name", "v1")
        at(user, own_lab, "late", "ip", "link", "set", "v1", "up")
        at(user, own_lab, "late", "ip", "address", "add", "10.8.0.1/24", "dev", "v0")
        at(user, own_lab, "late", "ip", "link", "set", "v0", "up")
        asked = ("exec", own_lab, "late", "--", "ping", "-c", "2", "-i", "0.1", "-W", "1", "10.8.0.9")

        def seen() -> bool:
            """It has asked, and that is in the file."""
            user.wirelab(*asked, status=None)
            return {"late:v0", "late:v1"} <= {frame.interface for frame in frames(read(made.file), "arp")}

        wait_until(seen, "the new node is recorded", 60)
        capture = made.end()
    assert {"late:v0", "late:v1"} <= set(names(capture))
    assert capture.names["10.8.0.1"] == "late"
    asked = [frame for frame in frames(capture, "arp") if frame.get("arp.dst.proto_ipv4") == "10.8.0.9"]
    assert {frame.interface for frame in asked} == {"late:v0", "late:v1"}


@FILTERS
def test_a_filter(user: Person, lab: str) -> None:
    with recording(user, lab, "pc1", "-f", "icmp and src host 10.0.0.2") as made:
        ping(user, lab, 3)
        capture = made.end()
    assert [frame.get("ip.src") for frame in frames(capture)] == ["10.0.0.2"] * 3
    assert (capture.interfaces[0].received, capture.interfaces[0].dropped) == (3, 0)
    wrong = user.wirelab("capture", lab, "-f", "icmp foo", "-w", "x", status=2)
    assert "the capture filter 'icmp foo' is wrong: syntax error" in wrong.stderr
    assert not (user.home / "x").exists()


@FILTERS
def test_a_filter_for_tags_sees_those_that_the_kernel_took_out(user: Person, lab: str) -> None:
    send = "import socket; s = socket.socket(17, 3, 0); s.bind(('eth0', 0)); s.send(bytes.fromhex('%s'))"
    with recording(user, lab, "pc1", "pc2", "-f", "vlan 10") as made:
        for tag in ("8100600a", "8100600b"):
            frame = "ffffffffffff" + "02574c000100" + tag + "88b5" + "00" * 46
            at(user, lab, "pc1", "python3", "-c", send % frame)
        ping(user, lab)
        capture = made.end()
    found = frames(capture, "vlan")
    assert len(found) == len(capture.packets) == 2
    assert [(frame.interface, frame.get("vlan.id")) for frame in found] == [("pc1:eth0", 10), ("pc2:eth0", 10)]


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--count", "5"), "so many packets were asked for: "),
        (("--duration", "4"), "the time is over: "),
        (("--max-size", "9k"), "the file is full: "),
    ],
)
def test_limits(user: Person, lab: str, words: Sequence[str], why: str) -> None:
    with recording(user, lab, "pc1", "pc2", *words) as made:
        began = time.monotonic()
        ping(user, lab, 30)
        capture = made.end(None)
        assert time.monotonic() - began < 15
        assert made.file.stat().st_size <= 9_000 or "--max-size" not in words
    assert why in made.said
    assert "none lost" in made.said
    assert capture.truncated is None
    count = sum(interface.received or 0 for interface in capture.interfaces)
    assert count == len(capture.packets) > 0
    if "--count" in words:
        assert count == 5


def test_a_ring_of_files(user: Person, lab: str) -> None:
    name = f"{lab}-ring"
    folder = user.home / name
    folder.mkdir(mode=0o755)
    if os.geteuid() == 0:
        os.chown(folder, user.uid, user.uid)
    process = user.popen(
        user.argv("capture", lab, "pc1", "-w", str(folder / "r.pcapng"), "--max-size", "9k", "--files", "2"),
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stderr is not None
    process.stderr.readline()
    ping(user, lab, 100)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    files = sorted(folder.iterdir())
    assert len(files) == 2, said
    assert files[0].name > "r_00002_"
    captures = [read(file) for file in files]
    assert all(capture.names and not capture.truncated for capture in captures)
    assert all(file.stat().st_size <= 9_000 for file in files)
    numbers = [frame.number_of("icmp.seq") for capture in captures for frame in frames(capture, "icmp")]
    assert numbers == sorted(numbers)
    assert numbers[-1] == 100
    alone = user.wirelab("capture", lab, "--files", "2", "-w", "x", status=2)
    assert "--files needs --max-size" in alone.stderr


@TOOLS
@pytest.mark.parametrize("victim", ["recorder", "command"])
def test_a_killed_capture_leaves_a_readable_file(user: Person, lab: str, victim: str) -> None:
    with recording(user, lab) as made:
        recorder = made.recorder()
        larger = grown(made)
        ping(user, lab)
        wait_until(lambda: larger() and len(frames(read(made.file), "icmp")) == 4 * 4, "all of it is in the file")
        os.kill(recorder if victim == "recorder" else made.process.pid, signal.SIGKILL)
        capture = made.end(None, status=1 if victim == "recorder" else -9)
        wait_until(lambda: not Path(f"/proc/{recorder}").exists(), "the recorder has ended")
        capture = read(made.file)
        done = subprocess.run(["tshark", "-r", str(made.file)], capture_output=True, text=True, check=False)
    if victim == "recorder":
        assert "the recorder was killed" in made.said
        assert "can be read" in made.said
    else:
        assert all(interface.received is not None for interface in capture.interfaces)
    assert capture.truncated is None
    assert len(frames(capture, "icmp")) == 4 * 4
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == len(capture.packets)


def test_the_end_of_the_lab_is_a_clean_end(user: Person, own_lab: str) -> None:
    with recording(user, own_lab) as made:
        ping(user, own_lab)
        user.wirelab("down", own_lab)
        capture = made.end(None)
    assert "the lab has ended: " in made.said
    assert "none lost" in made.said
    assert len(frames(capture, "icmp")) == 4 * 4
    assert all(interface.received is not None for interface in capture.interfaces)


def test_a_reader_that_goes_away_ends_the_capture(user: Person, lab: str) -> None:
    process = user.popen(
        user.argv("capture", lab, "-w", "-"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )
    assert process.stderr is not None
    assert process.stdout is not None
    assert "recording" in process.stderr.readline()
    assert os.read(process.stdout.fileno(), 4) == b"\x0a\x0d\x0d\x0a"
    process.stdout.close()
    assert "nobody reads any more" in process.stderr.read()
    assert process.wait(20) == 0
    process.stderr.close()


def test_a_reader_that_does_not_read_does_not_hold_up_the_end(user: Person, lab: str) -> None:
    process = user.popen(
        user.argv("capture", lab, "-w", "-"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )
    assert process.stderr is not None
    assert process.stdout is not None
    assert "recording" in process.stderr.readline()
    at(user, lab, "pc1", "ping", "-q", "-c", "200", "-s", "1400", "-i", "0.002", "10.0.0.2")
    process.send_signal(signal.SIGINT)
    assert "nobody reads what was recorded" in process.stderr.read()
    assert process.wait(20) == 1
    process.stdout.close()
    process.stderr.close()


def test_loss_is_told(user: Person, lab: str) -> None:
    """A recorder that does not get the processor: its rings overflow, and every packet is accounted for."""
    with recording(user, lab) as made:
        os.kill(made.recorder(), signal.SIGSTOP)
        at(user, lab, "pc1", "ping", "-q", "-f", "-s", "1400", "-c", "6000", "10.0.0.2")
        os.kill(made.recorder(), signal.SIGCONT)
        capture = made.end()
    lost = re.search(r"([\d,]+) packets, ([\d,]+) of them lost: the recorder was too slow", made.said)
    assert lost, made.said
    received, dropped = (int(number.replace(",", "")) for number in lost.groups())
    assert dropped > 0
    assert received - dropped == len(capture.packets)
    assert sum(interface.dropped or 0 for interface in capture.interfaces) == dropped
    assert "lost at: " in made.said
    assert received >= 6000 * 2 * 4


def test_a_counter_on_a_terminal_and_a_file_of_its_own_name(user: Person, lab: str) -> None:
    folder = user.home / f"{lab}-here"
    folder.mkdir(mode=0o755)
    if os.geteuid() == 0:
        os.chown(folder, user.uid, user.uid)
    leader, follower = pty.openpty()
    process = user.popen(
        user.argv("capture", lab, "pc1"),
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=follower, start_new_session=True, cwd=folder,
    )  # fmt: skip
    os.close(follower)
    said = b""
    while b"recording" not in said:
        said += os.read(leader, 4096)
    ping(user, lab)
    while not re.search(rb"\r\x1b\[K[1-9]\d* packets, [\d,]+ octets, none lost, \d+ s", said):
        said += os.read(leader, 4096)
    process.send_signal(signal.SIGINT)
    while b"packets, none lost" not in said:
        said += os.read(leader, 4096)
    assert process.wait(20) == 0
    os.close(leader)
    (file,) = folder.iterdir()
    assert re.fullmatch(rf"{lab}-\d{{8}}-\d{{6}}\.pcapng", file.name)
    assert f"into {file.name}" in said.decode()
    assert len(frames(read(file), "icmp")) == 4


def test_a_terminal_is_no_place_for_a_capture(user: Person, lab: str) -> None:
    leader, follower = pty.openpty()
    os.fchmod(follower, 0o666)
    done = user.run(user.argv("capture", lab, "-w", "-"), stdout=follower)
    os.close(follower)
    os.close(leader)
    assert done.returncode == 2
    assert "a capture is no text for a terminal" in done.stderr


def test_wireshark_gets_the_packets_while_they_come(user: Person, lab: str) -> None:
    """A program in Wireshark's place: what it was called with, and what it read."""
    programs = user.home / f"{lab}-bin"
    programs.mkdir(mode=0o755)
    fake = programs / "wireshark"
    fake.write_text(
        "#!/bin/sh\n"
        f'case "$1" in -G) printf "Personal configuration:\\t{programs}\\n"; exit ;; --version) exit ;; esac\n'
        f'echo "$@" >"$HOME/{lab}-asked"; cat >"$HOME/{lab}-got"\n'
    )
    fake.chmod(0o755)
    environment = user.environment() | {"PATH": f"{programs}:{user.environment()['PATH']}"}
    process = user.popen(
        user.argv("capture", lab, "pc1:eth0", "--wireshark"), stderr=subprocess.PIPE, env=environment,
        start_new_session=True,
    )  # fmt: skip
    assert process.stderr is not None
    assert "recording 1 interface of" in process.stderr.readline()
    ping(user, lab)
    got = user.home / f"{lab}-got"
    wait_until(lambda: got.exists() and len(frames(read(got), "icmp")) == 4, "Wireshark has the packets")
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    assert process.returncode == 0
    assert (user.home / f"{lab}-asked").read_text() == "-k -i -\n"
    wait_until(lambda: read(got).interfaces[0].received is not None, "the end of the capture")


def test_without_wireshark_it_says_what_is_missing(user: Person, lab: str) -> None:
    environment = user.environment() | {"PATH": "/nowhere"}
    done = user.run(user.argv("capture", lab, "--wireshark"), env=environment)
    assert done.returncode == 3
    assert "there is no program wireshark" in done.stderr
    assert "hint: " in done.stderr
