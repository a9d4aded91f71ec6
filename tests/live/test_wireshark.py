"""Labs in Wireshark's list of interfaces, with tshark as the client, as an ordinary user."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from emulator.capture import bpf
from tests.conftest import Person
from tests.live.conftest import processes, wait_until

pytestmark = pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark is not installed")

LAB = """\
name: pair
nodes:
  pc1: {kind: host, about: "a {strange} one", interfaces: {eth0: 10.0.0.1/24}}
  pc2: {kind: host, interfaces: {eth0: 10.0.0.2/24}}
  sw: {kind: switch}
links: [[pc1, sw], [pc2, sw]]
"""


@pytest.fixture
def installed(user: Person) -> Iterator[Person]:
    """A person who has installed it."""
    said = user.wirelab("wireshark", "install").stdout
    assert str(user.home) in said
    yield user
    user.wirelab("wireshark", "uninstall")


@pytest.fixture
def lab(installed: Person, lab_name: str) -> Iterator[str]:
    """The name of a running lab."""
    up(installed, lab_name)
    yield lab_name
    installed.wirelab("down", lab_name, status=None)
    place = str(installed.runs / lab_name)
    wait_until(lambda: not processes(place + " "), f"no process of {lab_name}")


def up(user: Person, name: str) -> None:
    folder = user.home / f"{name}-lab"
    folder.mkdir(exist_ok=True)
    (folder / "lab.yml").write_text(LAB)
    folder.chmod(0o755)
    user.wirelab("up", str(folder), "--name", name)


def listed(user: Person) -> list[str]:
    """The names of our interfaces in tshark's list."""
    done = user.run(["tshark", "-D"])
    words = [line.split()[1] for line in done.stdout.splitlines() if len(line.split()) > 1]
    return [word for word in words if word.startswith("wirelab:")]


@contextmanager
def pinging(user: Person, lab: str) -> Iterator[None]:
    """Ten pings a second, from pc1 to pc2, for as long as the block lasts."""
    process = user.popen(
        user.argv("exec", lab, "pc1", "--", "ping", "-q", "-i", "0.1", "10.0.0.2"),
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


def tshark(user: Person, interface: str, *words: str) -> list[str]:
    """What tshark shows of what it captures at `interface`."""
    done = user.run(["tshark", "-n", "-l", "-i", interface, *words], timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_every_interface_and_the_whole_lab_is_listed(installed: Person, lab: str) -> None:
    ours = [name for name in listed(installed) if name.split(":")[1] == lab]
    places = ["pc1:eth0", "pc2:eth0", "sw:br0", "sw:pc1", "sw:pc2"]
    assert sorted(ours) == [f"wirelab:{lab}", *(f"wirelab:{lab}:{place}" for place in places)]
    installed.wirelab("down", lab)
    assert not [name for name in listed(installed) if name.split(":")[1] == lab]


def test_before_and_after_installing_nothing_is_listed(user: Person, lab_name: str) -> None:
    up(user, lab_name)
    try:
        assert listed(user) == []
        user.wirelab("wireshark", "install")
        assert f"wirelab:{lab_name}:pc1:eth0" in listed(user)
        user.wirelab("wireshark", "uninstall")
        assert listed(user) == []
    finally:
        user.wirelab("down", lab_name)


def test_twice_in_a_row(installed: Person, lab: str) -> None:
    with pinging(installed, lab):
        for _ in range(2):
            lines = tshark(installed, f"wirelab:{lab}:pc1:eth0", "-c", "3", "-Y", "icmp")
            assert any("10.0.0.1 → 10.0.0.2" in line for line in lines), lines
    wait_until(lambda: not processes("commands.extcap"), "no program of ours runs on")


@pytest.mark.skipif(bpf._library() is None, reason="libpcap is not installed")
def test_a_capture_filter(installed: Person, lab: str) -> None:
    with pinging(installed, lab):
        lines = tshark(installed, f"wirelab:{lab}:pc2:eth0", "-f", "icmp[icmptype] == icmp-echoreply", "-c", "3")
    assert len(lines) == 3
    assert all("10.0.0.2 → 10.0.0.1" in line for line in lines), lines
    wrong = installed.run(["tshark", "-i", f"wirelab:{lab}:pc2:eth0", "-f", "icmp foo", "-c", "1"], timeout=60)
    assert wrong.returncode != 0
    assert "syntax error" in wrong.stderr


def test_the_whole_lab_with_names_and_the_profile(installed: Person, lab: str) -> None:
    with pinging(installed, lab):
        done = installed.run(
            ["tshark", "-l", "-C", "Wirelab", "-i", f"wirelab:{lab}", "-c", "12", "-Y", "icmp"], timeout=60
        )
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines()]
    assert {row[2] for row in rows} == {"pc1:eth0", "sw:pc1", "sw:pc2", "pc2:eth0"}
    assert {row[3] for row in rows} <= {"Inbound", "Outbound"}
    assert {tuple(row[4:7:2]) for row in rows} == {("pc1", "pc2"), ("pc2", "pc1")}


def test_a_choice_of_nodes(installed: Person, lab: str) -> None:
    fields = ["-T", "fields", "-e", "frame.interface_name"]
    with pinging(installed, lab):
        words = installed.run(["tshark", "-G", "currentprefs"]).stdout
        process = lab.partition("-")[0]
        name = next(line for line in words.splitlines() if ".nodes:" in line and process in line)
        option = f"{name.strip('#').partition(':')[0]}:pc1,pc2"
        lines = tshark(installed, f"wirelab:{lab}", "-o", option, "-c", "8", *fields)
    assert set(lines) == {"pc1:eth0", "pc2:eth0"}


def test_a_lab_that_went_down_and_came_up_between(installed: Person, lab: str) -> None:
    with pinging(installed, lab):
        assert tshark(installed, f"wirelab:{lab}:pc1:eth0", "-c", "1")
    installed.wirelab("down", lab)
    gone = installed.run(["tshark", "-i", f"wirelab:{lab}:pc1:eth0", "-c", "1"], timeout=60)
    assert gone.returncode != 0
    up(installed, lab)
    with pinging(installed, lab):
        assert tshark(installed, f"wirelab:{lab}:pc1:eth0", "-c", "1")


def test_a_lab_that_ends_during_the_capture_ends_it(installed: Person, lab: str) -> None:
    file = installed.home / f"{lab}.pcapng"
    process = installed.popen(
        ["tshark", "-n", "-i", f"wirelab:{lab}", "-w", str(file)], stderr=subprocess.PIPE, start_new_session=True
    )
    try:
        with pinging(installed, lab):
            wait_until(lambda: file.exists() and file.stat().st_size > 4096, "tshark has packets")
        began = time.monotonic()
        installed.wirelab("down", lab)
        _, said = process.communicate(timeout=30)
        assert time.monotonic() - began < 15
        assert process.returncode == 0, said
        read_back = subprocess.run(["tshark", "-n", "-r", str(file)], capture_output=True, text=True, check=False)
        assert read_back.returncode == 0, read_back.stderr
        assert len(read_back.stdout.splitlines()) > 10
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


def test_a_stop_takes_everything_of_ours_along(installed: Person, lab: str) -> None:
    """What Wireshark's stop button does to the program, and what a crash of Wireshark does."""
    place = str(installed.runs / lab)
    for number in (signal.SIGINT, signal.SIGKILL):
        process = installed.popen(
            ["tshark", "-n", "-i", f"wirelab:{lab}"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        wait_until(lambda: recorders(place) > 0, "it records")
        process.send_signal(number)
        process.wait(20)
        wait_until(lambda: recorders(place) == 0, "no recorder runs on")


def recorders(place: str) -> int:
    """How many recorders of the lab with this run directory there are."""
    return sum("capture.recorder" in line for line in processes(place).values())
