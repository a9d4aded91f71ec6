"""How many frames does a capture lose, and what does it cost? `wirelab capture` beside `dumpcap`, at the same interface
and at the same time.

    python bench/capture.py [--rates 10,50,100,200] [--seconds 3] [--octets 128] [--buffer MIB] [--nice N] [--json]

A lab of two hosts and a cable. Frames are sent at a rate (thousands a second), then iperf3 runs as fast as it can. What
passed is what the kernel's own counters of the interface say; lost is what of that is not in the file. CPU is the time
of the process that captures, in per cent of one processor. Needs dumpcap and capinfos (tshark), and iperf3.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
LAB = """\
name: bench
nodes:
  a: {kind: host, interfaces: {eth0: 10.0.0.1/24}}
  b: {kind: host, interfaces: {eth0: 10.0.0.2/24}}
links:
  - [a:eth0, b:eth0]
"""
NAME = f"bench-capture-{os.getpid()}"
TICKS = os.sysconf("SC_CLK_TCK")


def wirelab(*words: str) -> list[str]:
    """The command line `wirelab WORDS…` of this checkout."""
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from emulator.cli import main; sys.exit(main())"
    return [sys.executable, "-c", code, *words]


def output(*argv: str) -> str:
    """What a command prints."""
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


def child_of(pid: int, name: str) -> int:
    """The process below `pid` whose command line has `name` in it."""
    for _ in range(500):
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                    if parent == pid and name in (entry / "cmdline").read_text():
                        return int(entry.name)
        time.sleep(0.01)
    raise SystemExit(f"{name} did not start")


def cpu_s(pid: int) -> float:
    """Seconds of processor time that the process and its threads have used, in user and kernel mode."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def passed() -> int:
    """Frames that have passed b:eth0, both ways, by the kernel's counters."""
    (link,) = json.loads(output(*wirelab("exec", NAME, "b", "--", "ip", "-json", "-s", "link", "show", "eth0")))
    return link["stats64"]["rx"]["packets"] + link["stats64"]["tx"]["packets"]


def frames_in(file: Path) -> int:
    """Packets in a capture file."""
    table = output("capinfos", "-c", "-M", "-T", "-r", str(file))
    return int(table.split()[-1])


@contextlib.contextmanager
def captures(folder: Path, buffer: int) -> Iterator[dict[str, int]]:
    """Both captures of b:eth0, live; gives the process of each. `buffer` is dumpcap's, in MiB; 0 for its default."""
    files = {name: folder / f"{name}.pcapng" for name in ("dumpcap", "wirelab")}
    more = ["-B", str(buffer)] if buffer else []
    theirs = subprocess.Popen(
        wirelab("exec", NAME, "b", "--", "dumpcap", "-q", "-i", "eth0", *more, "-w", str(files["dumpcap"])),
        stderr=subprocess.DEVNULL,
    )
    ours = subprocess.Popen(
        wirelab("capture", NAME, "b:eth0", "-w", str(files["wirelab"])), stderr=subprocess.PIPE, text=True
    )
    try:
        pids = {"dumpcap": child_of(theirs.pid, "dumpcap"), "wirelab": child_of(ours.pid, "recorder")}
        if ours.stderr is None or "recording" not in ours.stderr.readline():
            raise SystemExit("wirelab capture did not start")
        deadline = time.monotonic() + 10
        while not files["dumpcap"].exists() or not files["dumpcap"].stat().st_size:
            if time.monotonic() > deadline or theirs.poll() is not None:
                raise SystemExit("dumpcap did not start")
            time.sleep(0.05)
        time.sleep(0.3)
        yield pids
        time.sleep(0.5)
    finally:
        with contextlib.suppress(UnboundLocalError, ProcessLookupError):
            os.kill(pids["dumpcap"], signal.SIGINT)
        ours.send_signal(signal.SIGINT)
        theirs.wait(60)
        ours.communicate(timeout=120)


def step(folder: Path, buffer: int, traffic: list[list[str]]) -> dict[str, Any]:
    """Both captures while `traffic` runs: the last of these commands ends it."""
    before = passed()
    with captures(folder, buffer) as pids:
        used = {name: cpu_s(pid) for name, pid in pids.items()}
        began = time.monotonic()
        others = [subprocess.Popen(argv, stdout=subprocess.DEVNULL) for argv in traffic[:-1]]
        if others:
            time.sleep(0.3)
        said = json.loads(output(*traffic[-1]))
        for other in others:
            other.wait(20)
        seconds = time.monotonic() - began
        time.sleep(0.3)
        used = {name: cpu_s(pid) - used[name] for name, pid in pids.items()}
        frames = passed() - before
    result: dict[str, Any] = {"frames": frames, "seconds": round(seconds, 2), "said": said}
    for name in ("dumpcap", "wirelab"):
        file = folder / f"{name}.pcapng"
        result[name] = {"lost": frames - frames_in(file), "cpu_percent": round(100 * used[name] / seconds)}
        file.unlink()
    return result


def main() -> None:
    """Run all steps, and print the table."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    options.add_argument("--rates", default="10,50,100,200", help="thousands of frames a second")
    options.add_argument("--seconds", type=float, default=3.0)
    options.add_argument("--octets", type=int, default=128, help="size of a frame")
    options.add_argument("--buffer", type=int, default=0, help="dumpcap's, in MiB; default: its own (2)")
    options.add_argument("--nice", type=int, default=0, help="for a machine with other load: as nice(1), needs root")
    options.add_argument("--json", action="store_true")
    chosen = options.parse_args()
    os.nice(chosen.nice)  # the sender and both captures inherit it
    lacking = [program for program in ("dumpcap", "capinfos", "iperf3") if shutil.which(program) is None]
    if lacking:
        raise SystemExit(f"this machine lacks {', '.join(lacking)} (packages tshark, iperf3)")
    # Nodes see the home folder; they have a /tmp of their own.
    with tempfile.TemporaryDirectory(prefix="wirelab-bench-", dir=Path.home()) as text:
        folder = Path(text)
        (folder / "lab.yml").write_text(LAB)
        subprocess.run(wirelab("up", str(folder), "--name", NAME), check=True, stdout=subprocess.DEVNULL)
        try:
            mac = json.loads(output(*wirelab("ps", NAME, "--json")))["nodes"][1]["interfaces"]["eth0"]["mac"]
            rows = {}
            for thousands in chosen.rates.split(","):
                words = (mac, str(int(thousands) * 1000), str(chosen.seconds), str(chosen.octets))
                program = Path(__file__).with_name("generate.py").read_text()
                generate = wirelab("exec", NAME, "a", "--", "python3", "-c", program, "eth0", *words)
                rows[f"{thousands},000/s"] = step(folder, chosen.buffer, [generate])
            server = wirelab("exec", NAME, "b", "--", "iperf3", "-s", "-1")
            client = wirelab("exec", NAME, "a", "--", "iperf3", "-J", "-c", "10.0.0.2", "-t", str(int(chosen.seconds)))
            rows["iperf3"] = step(folder, chosen.buffer, [server, client])
            said = rows["iperf3"].pop("said")
            rows["iperf3"]["gbit_s"] = round(said["end"]["sum_received"]["bits_per_second"] / 1e9, 2)
        finally:
            subprocess.run(wirelab("down", NAME), check=False, stdout=subprocess.DEVNULL)
    if chosen.json:
        print(json.dumps(rows))
        return
    print(
        f"{'load':<12}{'frames':>10}{'frames/s':>10}   {'dumpcap lost':>14}{'CPU':>6}   {'wirelab lost':>14}{'CPU':>6}"
    )
    for load, row in rows.items():
        theirs, ours = row["dumpcap"], row["wirelab"]
        speed = row["said"]["sent"] / row["said"]["seconds"] if "said" in row else row["frames"] / chosen.seconds
        print(
            f"{load:<12}{row['frames']:>10,}{speed:>10,.0f}   {theirs['lost']:>14,}{theirs['cpu_percent']:>5}%"
            f"   {ours['lost']:>14,}{ours['cpu_percent']:>5}%"
        )
    print(
        f"iperf3 moved {rows['iperf3']['gbit_s']} Gbit/s meanwhile; {chosen.octets} octets a frame at the other loads"
    )


if __name__ == "__main__":
    main()
