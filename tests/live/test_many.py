"""Many labs at once, and one lab many times: none disturbs another one, and nothing grows.

In `make nightly` 30 instances of `nat` at the same time, 500 times up and down, and 80 tests of a user's own in four
workers; fewer in `make test`, where other tests run beside these, so that figures of the whole machine are printed
there and not judged.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import Person
from tests.live.conftest import copy_pytest
from tests.live.traces import NIGHTLY, living, often, watching, write_figures

INSTANCES = often(4, 30)
STARTING, VERIFYING = 4, often(2, 4)
"""How many do it at the same moment: the machine's neighbour table has room for 1,024 entries of all labs together, and
what the checks measure in time needs a processor."""

PAIR = """
name: pair
nodes:
  a: {interfaces: {eth0: 10.0.0.1/24}, services: {http: {pages: {/: "of its own\\n"}}}}
  b: {interfaces: {eth0: 10.0.0.2/24}}
links: [["a:eth0", "b:eth0"]]
"""


def table_overflows() -> int:
    """How often the neighbour table had no room, since the machine was started (the counters of each processor)."""
    with open("/proc/net/stat/arp_cache", encoding="ascii") as table:
        names, *rows = [line.split() for line in table]
    return sum(int(row[names.index("table_fulls")], 16) for row in rows)


@pytest.mark.parametrize("person", ["user", "root"] if NIGHTLY else ["user"], indirect=True)
def test_instances_of_one_lab(person: Person, lab_name: str) -> None:
    """Started, verified and stopped while others are; at one moment all of them run."""
    names = [f"{lab_name}-{number}" for number in range(INSTANCES)]
    starting, verifying = threading.Semaphore(STARTING), threading.Semaphore(VERIFYING)
    began = time.monotonic()
    overflows = table_overflows()
    with watching(person) as watch:
        all_up = threading.Barrier(
            INSTANCES, action=lambda: seen.update(row["name"] for row in watch.person.json("ps"))
        )
        seen: set[str] = set()

        def live(name: str) -> dict[str, str]:
            """One instance's life: what its checks said."""
            try:
                with starting:
                    watch.person.wirelab("up", "nat", "--name", name)
                all_up.wait(600)
            except BaseException:
                all_up.abort()
                raise
            with verifying:
                report = watch.person.json("verify", name, status=None)
            watch.person.wirelab("down", name)
            with starting:  # and once more, while others are still verified
                watch.person.wirelab("up", "nat", "--name", name)
            page = watch.person.wirelab("exec", name, "pc1", "--", "curl", "-s", "-m", "9", "http://www.example.com/")
            assert "You reached www.example.com" in page.stdout
            watch.person.wirelab("down", name)
            return {check["name"]: f"{check['verdict']} {check['reason']}" for check in report["checks"]}

        try:
            with ThreadPoolExecutor(INSTANCES) as pool:
                reports = list(pool.map(live, names))
        finally:
            watch.person.wirelab("down", "--all", status=None)
        watch.check()
    assert seen == set(names)
    bad = [(name, check, said) for name, report in zip(names, reports, strict=True)
           for check, said in report.items() if not said.startswith("pass")]  # fmt: skip
    write_figures(
        "instances",
        person=person.name,
        instances=INSTANCES,
        verdicts=sum(map(len, reports)),
        not_passed=len(bad),
        overflows=table_overflows() - overflows,
        seconds=round(time.monotonic() - began),
    )
    assert len({frozenset(report) for report in reports}) == 1
    assert bad == []


def machine() -> dict[str, int]:
    """What could grow: numbers of things, and kernel memory in KiB (proc_meminfo(5), proc_sys_fs(5))."""
    with open("/proc/meminfo", encoding="ascii") as lines:
        memory = {name: int(rest.split()[0]) for name, rest in (line.split(":") for line in lines)}
    return {
        "processes": len(living()),
        "mounts": len(Path("/proc/self/mountinfo").read_text().splitlines()),
        "open files": int(Path("/proc/sys/fs/file-nr").read_text().split()[0]),
        "Percpu KiB": memory["Percpu"],
        "SUnreclaim KiB": memory["SUnreclaim"],
    }


def settled() -> dict[str, int]:
    """The figures once the kernel has taken back the last namespaces: when two looks a second apart give the same."""
    deadline = time.monotonic() + 30
    last = machine()
    while True:
        time.sleep(1)
        now = machine()
        if abs(now["Percpu KiB"] - last["Percpu KiB"]) < 64 or time.monotonic() > deadline:
            return now
        last = now


MARGINS = {"processes": 2, "mounts": 0, "open files": 128, "Percpu KiB": 1024, "SUnreclaim KiB": 16 << 10}
"""How much a machine moves by itself in ten minutes; 500 labs that were kept would be 500 × 3 × 320 KiB."""


@contextmanager
def no_growth(name: str, person: Person, cycles: int) -> Iterator[None]:
    """Judge the figures of the machine in the long form, in which nothing else runs."""
    figures = settled if NIGHTLY else machine
    before, began = figures(), time.monotonic()
    yield
    seconds = round(time.monotonic() - began)
    after = figures()
    write_figures(name, person=person.name, cycles=cycles, seconds=seconds, before=before, after=after)
    if NIGHTLY:
        grown = {
            what: (before[what], after[what]) for what, most in MARGINS.items() if after[what] > before[what] + most
        }
        assert not grown, f"(before, after): {grown}"


@pytest.fixture
def pair(person: Person, lab_name: str) -> Iterator[str]:
    """The file of a small lab."""
    file = person.home / f"{lab_name}.yml"
    file.write_text(PAIR)
    file.chmod(0o644)
    yield str(file)
    file.unlink()


def test_up_and_down(person: Person, lab_name: str, pair: str) -> None:
    cycles = often(10, 500)
    with watching(person) as watch:

        def cycle() -> None:
            watch.person.wirelab("up", pair, "--name", lab_name)
            watch.person.wirelab("down", lab_name)

        for _ in range(often(2, 20)):  # what is made at first use and stays
            cycle()
        watch.check()
        with no_growth("up and down", person, cycles):
            for number in range(cycles):
                cycle()
                if number % 10 == 0:
                    watch.check()
        watch.check()


IN_ONE_PROCESS = """
import gc, json, os, sys
import emulator

def figures():
    gc.collect()
    with open("/proc/self/status") as lines:
        status = {line.partition(":")[0]: line.partition(":")[2].strip() for line in lines}
    files = [os.readlink(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd")
             if os.path.exists(f"/proc/self/fd/{name}")]
    with open(f"/proc/self/task/{os.getpid()}/children") as words:
        children = words.read().split()
    return {"open files": len(files), "children": len(children), "threads": int(status["Threads"]),
            "resident KiB": int(status["VmRSS"].split()[0])}

def cycle():
    with emulator.up(sys.argv[1], name=sys.argv[2]) as lab:
        assert lab["b"].run(["curl", "-s", "-m", "5", "http://10.0.0.1/"], check=True).stdout == "of its own\\n"

for _ in range(5):
    cycle()
before = figures()
for _ in range(int(sys.argv[3])):
    cycle()
print(json.dumps([before, figures()]))
"""


def test_up_and_down_in_one_process(person: Person, lab_name: str, pair: str) -> None:
    """Of a program that uses the package, open files, children and memory stay as they are."""
    cycles = often(10, 500)
    with watching(person) as watch, no_growth("in one process", person, cycles):
        argv = [watch.person.python, "-W", "error", "-c", IN_ONE_PROCESS, pair, lab_name, str(cycles)]
        done = watch.person.run(argv, timeout=1800)
        assert (done.returncode, done.stderr) == (0, "")
        before, after = json.loads(done.stdout)
        write_figures("the process itself", person=person.name, cycles=cycles, before=before, after=after)
        resident = after.pop("resident KiB") - before.pop("resident KiB")
        assert after == before
        assert resident < 8 << 10
        watch.check()


TESTS = """\
import pytest

@pytest.mark.lab({file!r})
@pytest.mark.parametrize("number", range({count}))
def test_a_lab_of_its_own(lab, number):
    assert lab["b"].run(["test", "-e", "/tmp/mark"]).status == 1
    lab["b"].run(["touch", "/tmp/mark"], check=True)
    assert lab["b"].run(["curl", "-s", "-m", "5", "http://10.0.0.1/"], check=True).stdout == "of its own\\n"
"""


@pytest.mark.parametrize("person", ["user", "root"] if NIGHTLY else ["user"], indirect=True)
def test_plugin_in_four_workers(person: Person, lab_name: str, pair: str) -> None:
    each = often(5, 20)
    folder = person.home / lab_name
    folder.mkdir()
    (folder / "test_labs.py").write_text(TESTS.format(file=pair, count=4 * each))
    if os.geteuid() == 0:
        os.chown(folder, person.uid, person.uid)
    path = os.pathsep.join(map(str, (person.installation, person.installation / "packages", copy_pytest(person))))
    plugins = ["-p", "emulator.pytest_plugin", "-p", "xdist.plugin", "-p", "no:cacheprovider"]
    with watching(person) as watch:
        env = {**watch.person.environment(), "PYTHONPATH": path, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        base = f"--basetemp={folder / 'base'}"
        argv = [watch.person.python, "-m", "pytest", *plugins, "-n", "4", base, "-W", "error", "test_labs.py"]
        began = time.monotonic()
        done = watch.person.run(argv, env=env, cwd=folder, timeout=600)
        assert f"{4 * each} passed" in done.stdout, done.stdout[-3000:] + done.stderr[-2000:]
        write_figures("plugin", person=person.name, workers=4, tests=4 * each, seconds=round(time.monotonic() - began))
        watch.kept |= {str(one.relative_to(person.home)) for one in [folder, *folder.rglob("*")]}
        assert not list(folder.glob("artefacts/*"))
        watch.check()
