"""The recorder on real interfaces: two network namespaces and a cable between them, in namespaces of the test's own."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from emulator.capture.decode import decode
from emulator.capture.frame import Frame
from emulator.capture.pcapng import Capture, read

SCENE = '''
"""Runs inside new user and network namespaces: argv is the output file, what to do, and options of `record`."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

from emulator.capture.record import Source, record
from emulator.errors import WirelabError
from emulator.run import kernel

output, action, options = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])


def node():
    ready, held = os.pipe(), os.pipe()
    pid = os.fork()
    if not pid:
        os.close(held[1])
        kernel.unshare(kernel.CLONE_NEWNET)
        os.write(ready[1], b"x")
        os.read(held[0], 1)
        os._exit(0)
    assert os.read(ready[0], 1)
    return pid, os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)


def at(pid, *argv):
    return subprocess.run(["nsenter", "-t", str(pid), "-n", *argv], check=True, capture_output=True, text=True).stdout


(pc1, pc1_namespace), (pc2, pc2_namespace) = node(), node()
subprocess.run(
    ["ip", "link", "add", "eth0", "netns", str(pc1), "type", "veth", "peer", "name", "eth0", "netns", str(pc2)],
    check=True,
)
for pid, address in ((pc1, "10.0.0.1/24"), (pc2, "10.0.0.2/24")):
    at(pid, "ip", "address", "add", address, "dev", "eth0")
    at(pid, "ip", "link", "set", "lo", "up")
    at(pid, "ip", "link", "set", "eth0", "up")

stop_read, stop_write = os.pipe()
live, result = threading.Event(), {}
here = os.readlink("/proc/self/ns/net")


def run():
    try:
        with open(output, "wb") if not output.startswith("/dev/") else open(output, "wb", buffering=0) as file:
            figures = record(
                [Source("pc1", pc1_namespace), Source("pc2", pc2_namespace)],
                file.fileno(),
                stop_fd=stop_read,
                ready=lambda count: (result.update(ready=count), live.set()),
                **options,
            )
        result["interfaces"] = {each.name: [each.received, each.dropped] for each in figures.interfaces}
        result["total"] = [figures.received, figures.dropped]
    except WirelabError as error:
        result["error"] = [type(error).__name__, error.message]
    finally:
        result["ended"] = time.monotonic()
        live.set()


recorder = threading.Thread(target=run)
recorder.start()
live.wait()
if action == "ping":
    at(pc1, "ping", "-q", "-c", "3", "-i", "0.1", "10.0.0.2")
elif action == "flood":
    at(pc1, "ping", "-q", "-f", "-c", "20000", "10.0.0.2")
elif action == "cable":
    at(pc1, "ip", "link", "set", "eth0", "down")
    time.sleep(0.1)
    at(pc1, "ip", "link", "set", "eth0", "up")
    at(pc1, "ping", "-q", "-c", "1", "10.0.0.2")
    before = time.process_time()
    at(pc1, "ip", "link", "delete", "eth0")
    time.sleep(0.3)
    result["busy"] = time.process_time() - before
elif action == "lo":
    at(pc1, "ping", "-q", "-c", "1", "127.0.0.1")
elif action == "tags":
    for tag in ("8100600a", "88a80014"):
        frame = "ffffffffffff" + "02574c000100" + tag + "88b5" + "00" * 46
        send = "import socket; s = socket.socket(17, 3, 0); s.bind(('eth0', 0)); s.send(bytes.fromhex('%s'))"
        at(pc1, sys.executable, "-c", send % frame)
stopped = time.monotonic()
os.close(stop_write)
recorder.join()
result["stop"] = result.pop("ended") - stopped
result["home"] = here == os.readlink("/proc/self/ns/net")
result["files"] = len(os.listdir("/proc/self/fd"))
print(json.dumps(result))
for pid in (pc1, pc2):
    os.kill(pid, signal.SIGKILL)
'''


def _why_not() -> str | None:
    for tool in ("unshare", "nsenter", "ip", "ping"):
        if shutil.which(tool) is None:
            return f"{tool} is not installed"
    tried = subprocess.run(["unshare", "-Urn", "true"], capture_output=True, text=True, check=False)
    return None if tried.returncode == 0 else f"no user namespaces here: {tried.stderr.strip()}"


pytestmark = pytest.mark.skipif((reason := _why_not()) is not None, reason=reason or "")


def play(output: Path, action: str, **options: Any) -> dict[str, Any]:
    """What the recorder said while `action` happened on the cable."""
    done = subprocess.run(
        ["unshare", "-Urnf", "--kill-child", sys.executable, "-c", SCENE, str(output), action, json.dumps(options)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    assert result["home"]
    return result


def pings(capture: Capture) -> list[Frame]:
    frames = decode(capture.packets, capture.interfaces)
    return [frame for frame in frames if "icmp" in frame.layers]


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "capture.pcapng"


def test_every_interface_both_directions_in_order(output: Path) -> None:
    result = play(output, "ping")
    capture = read(output)
    assert capture.truncated is None
    assert [interface.name for interface in capture.interfaces] == ["pc1:eth0", "pc2:eth0"]
    assert all(interface.mac for interface in capture.interfaces)
    assert [packet.time_ns for packet in capture.packets] == sorted(packet.time_ns for packet in capture.packets)
    seen = [(frame.interface, frame.direction, frame.number_of("icmp.type")) for frame in pings(capture)]
    once = [("pc1:eth0", "out", 8), ("pc2:eth0", "in", 8), ("pc2:eth0", "out", 0), ("pc1:eth0", "in", 0)]
    assert seen == once * 3
    assert result["ready"] == 2
    for interface in capture.interfaces:
        count = sum(capture.interfaces[packet.interface] == interface for packet in capture.packets)
        assert (interface.received, interface.dropped) == (count, 0)
        assert result["interfaces"][interface.name] == [count, 0]


def test_a_stop_waits_for_open_blocks_and_not_longer(output: Path) -> None:
    assert play(output, "ping")["stop"] < 0.5
    assert len(pings(read(output))) == 12


def test_a_burst_is_recorded_or_counted(output: Path) -> None:
    result = play(output, "flood")
    capture = read(output)
    received, dropped = result["total"]
    assert received >= 80_000
    assert len(capture.packets) == received - dropped
    small = play(output, "flood", ring_bytes=1)
    assert len(read(output).packets) == small["total"][0] - small["total"][1]


def test_a_cable_that_is_pulled_and_put_back(output: Path) -> None:
    result = play(output, "cable")
    assert len(pings(read(output))) == 4
    assert result["busy"] < 0.2


def test_loopback_when_asked_for(output: Path) -> None:
    assert play(output, "lo")["interfaces"].keys() == {"pc1:eth0", "pc2:eth0"}
    play(output, "lo", loopback=True)
    assert [(frame.interface, frame.direction) for frame in pings(read(output))] == [("pc1:lo", "in")] * 2
    assert play(output, "lo", only=["pc1:lo"])["interfaces"].keys() == {"pc1:lo"}


def test_only_some_interfaces(output: Path) -> None:
    assert play(output, "ping", only=["pc2"])["interfaces"].keys() == {"pc2:eth0"}
    result = play(output, "none", only=["pc2:eth0", "pc3", "pc1:eth7"])
    assert result["error"] == ["UsageError", "no interface to record at pc1:eth7, pc3"]


def test_tags_are_where_they_were_on_the_wire(output: Path) -> None:
    """The receiving kernel takes the outer tag out of the frame before the recorder sees it."""
    play(output, "tags")
    capture = read(output)
    tagged = [frame for frame in decode(capture.packets, capture.interfaces) if "vlan" in frame.layers]
    assert [frame.interface for frame in tagged] == ["pc1:eth0", "pc2:eth0"] * 2
    assert [frame.get("eth.type") for frame in tagged] == [0x8100] * 2 + [0x88A8] * 2
    assert [frame.get("vlan.id") for frame in tagged] == [10, 10, 20, 20]
    assert [frame.get("vlan.priority") for frame in tagged] == [3, 3, 0, 0]
    assert [(len(frame.data), frame.length) for frame in tagged] == [(64, 64)] * 4


def test_snaplen_keeps_the_length(output: Path) -> None:
    play(output, "ping", snaplen=60)
    assert {(len(frame.data), frame.length) for frame in pings(read(output))} == {(60, 98)}


def test_a_full_disk_is_told() -> None:
    result = play(Path("/dev/full"), "ping")
    assert result["error"] == ["CommandFailed", "cannot write the capture: No space left on device"]


def test_nothing_stays_open(output: Path) -> None:
    assert play(output, "ping")["files"] == play(output, "none", only=["absent"])["files"]


@pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark is not installed")
def test_wireshark_reads_it(output: Path) -> None:
    play(output, "ping")
    fields = ["-T", "fields", "-e", "frame.interface_name", "-e", "frame.packet_flags_direction", "-e", "icmp.seq"]
    done = subprocess.run(
        ["tshark", "-n", "-r", str(output), "-Y", "icmp", *fields], capture_output=True, text=True, check=True
    )
    ours = [
        f"{frame.interface}\t0x0000000{1 if frame.direction == 'in' else 2}\t{frame.number_of('icmp.seq')}"
        for frame in pings(read(output))
    ]
    assert [line.lower() for line in done.stdout.splitlines()] == ours
