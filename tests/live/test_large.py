"""Large labs: many hosts without a process each, taken back at once when the work is interrupted, and as quietly when
something fails in the middle."""

from __future__ import annotations

import contextlib
import json
import re
import resource
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

from tests.conftest import Person
from tests.live.conftest import first_processes, namespaces_of, processes, users_of, wait_until

HOSTS = 60

_OFFLOADS = """
import array, fcntl, socket, struct, sys
said = []
for word, command in (("checksums", 0x16), ("segmentation", 0x1E), ("generic segmentation", 0x23)):
    value = array.array("I", (command, 7))
    request = struct.pack("16sP16x", sys.argv[1].encode(), value.buffer_info()[0])
    fcntl.ioctl(socket.socket(socket.AF_INET, socket.SOCK_DGRAM), 0x8946, request)
    said.append(f"{word} {value[1]}")
print(", ".join(said))
"""
"""What ethtool(8) would say: ETHTOOL_GTXCSUM, ETHTOOL_GTSO and ETHTOOL_GGSO (linux/ethtool.h)."""


def test_hosts_cost_no_process(person: Person, lab_name: str, nothing_left: Callable[[], None]) -> None:
    person.wirelab("up", "--topology", f"single,{HOSTS}", "--name", lab_name)
    _keeper, init = first_processes(person.runs, lab_name)
    assert users_of({namespaces_of(init)["user"]}) == [init], "nobody is there but the first process"
    for host, to in ((1, HOSTS), (HOSTS, 1)):
        person.wirelab("exec", lab_name, f"h{host}", "--", "ping", "-c1", "-W2", f"10.0.0.{to}")
    link = json.loads(person.wirelab("exec", lab_name, "h7", "--", "ip", "-json", "-d", "link").stdout)[1]
    assert (link["num_tx_queues"], link["num_rx_queues"], link["operstate"]) == (1, 1, "UP")
    for node, interface in (("h7", "eth0"), ("s1", "h7")):
        asked = ("exec", lab_name, node, "--", person.python, "-c", _OFFLOADS, interface)
        assert person.wirelab(*asked).stdout == "checksums 0, segmentation 0, generic segmentation 0\n"
    for scope in ("all", "default", "eth0", "lo"):
        setting = f"/proc/sys/net/ipv6/conf/{scope}/disable_ipv6"
        assert person.wirelab("exec", lab_name, "h7", "--", "cat", setting).stdout == "1\n"
    person.wirelab("down", lab_name)
    nothing_left()


def test_settings_are_written_through_views(person: Person, lab_name: str) -> None:
    """The lab's first process gives the builder mounts of /proc; else large labs are made much more slowly."""
    person.wirelab("up", "--topology", "single,2", "--name", lab_name)
    script = """
import os, sys
from emulator.run.control import Control
with Control(sys.argv[1]) as control:
    view = control.view_of_proc()
    print("net" in os.listdir(os.open("sys", os.O_RDONLY, dir_fd=view)))
"""
    done = person.run([person.python, "-c", script, str(person.runs / lab_name)])
    person.wirelab("down", lab_name)
    assert (done.stdout, done.stderr) == ("True\n", "")


def test_interrupted_in_the_middle(person: Person, lab_name: str, nothing_left: Callable[[], None]) -> None:
    """Ctrl-C while namespaces and cables are made: the first process has been handed some, and not yet all."""
    process = person.popen(
        person.argv("up", "--topology", "single,500", "--name", lab_name),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    wait_until(lambda: _most_files(person.runs / lab_name) > 100, "the first process has namespaces", 60)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said.splitlines()[-1] == "wirelab: interrupted"
    nothing_left()


def _most_files(run_directory: Path) -> int:
    """How many files are open in that process of a lab that has most."""
    counts = [0]
    for pid in processes(f"{run_directory}"):
        with contextlib.suppress(OSError):
            counts.append(len(list(Path(f"/proc/{pid}/fd").iterdir())))
    return max(counts)


def test_a_process_with_threads(user: Person, tmp_path: Path) -> None:
    """A copy of such a process would not work: it starts an interpreter for the builder, and builds the same."""
    script = """
import sys, threading
import emulator
if sys.argv[1] == "threads":
    threading.Thread(target=threading.Event().wait, daemon=True).start()
with emulator.up(topology="tree,2,3", name=sys.argv[2]) as lab:
    for command in (["ip", "-4", "-br", "-o", "address"], ["ip", "route"]):
        print(lab["h1"].run(command, check=True).stdout)
    print(lab["s1"].run(["ls", "/sys/class/net/br0/brif"], check=True).stdout)
"""
    said = [user.run([user.python, "-c", script, how, f"t-threads-{how}"], timeout=60) for how in ("threads", "alone")]
    assert all(done.returncode == 0 for done in said), [done.stderr for done in said]
    assert "10.0.0.1/24" in said[0].stdout
    words = [re.sub(r" (UP|UNKNOWN) ", " ", done.stdout) for done in said]  # the kernel may still be about to tell it
    assert words[0] == words[1]


def test_a_failure_in_a_batch_names_its_operation(
    user: Person, lab_name: str, tmp_path: Path, nothing_left: Callable[[], None]
) -> None:
    """An interface whose frames are too small for IPv6 (RFC 8200, section 5) takes no such address."""
    links = "\n".join(
        f"  - {{endpoints: [sw, h{number}], mtu: {1000 if number == 5 else 1500}}}" for number in range(9)
    )
    nodes = "\n".join(f"  h{number}: {{interfaces: {{eth0: '2001:db8::{number + 1}/64'}}}}" for number in range(9))
    file = user.home / "small-frames.yml"
    file.write_text(f"name: small-frames\nnodes:\n  sw: {{kind: switch}}\n{nodes}\nlinks:\n{links}\n")
    failed = user.wirelab("up", str(file), "--name", lab_name, status=1)
    assert re.match(r"wirelab: cannot give h5:eth0 the address 2001:db8::6/64: \w+", failed.stderr), failed.stderr
    nothing_left()


def test_too_few_open_files(user: Person, lab_name: str, nothing_left: Callable[[], None]) -> None:
    limit = lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))  # noqa: E731
    failed = user.wirelab("up", "--topology", "single,80", "--name", lab_name, status=3, preexec_fn=limit)
    assert (
        "for the 81 nodes of single-80 a process must open at least 89 files; it may open 64\n  hint: " in failed.stderr
    )
    nothing_left()
