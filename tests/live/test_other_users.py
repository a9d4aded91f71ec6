"""Two ordinary users on one machine: neither can see, enter, capture, end or spoil the labs of the other."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.conftest import Person
from tests.live.conftest import first_processes, processes, wait_until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="two users are needed: the tests do not run as root")

OWNER_ID = 48_000 + 3 * (os.getpid() % 1_000)
STRANGER_ID, VICTIM_ID = OWNER_ID + 1, OWNER_ID + 2
"""Others than in other runs of these tests, since their folders in /tmp are named after them."""

ATTACK = r"""
import contextlib, ctypes, json, os, resource, signal, socket, sys
base, name, init, keeper, member = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:6])
done = {}

def refused(what, function):
    try:
        result = function()
    except OSError as error:
        done[what] = error.errno
    else:
        done[what] = f"worked: {result!r}"[:200]

libc = ctypes.CDLL(None, use_errno=True)
octet = ctypes.create_string_buffer(1)

def call(number_or_function, *arguments):
    if number_or_function(*arguments) < 0:
        raise OSError(ctypes.get_errno(), "")

def connect(path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as link:
        link.connect(path)

folder = f"{base}/{name}"
refused("list base", lambda: os.listdir(base))
refused("list", lambda: os.listdir(folder))
refused("facts", lambda: open(f"{folder}/lab.json").read())
refused("lock", lambda: os.open(f"{folder}/lock", os.O_RDONLY))
refused("log", lambda: os.listdir(f"{folder}/log"))
refused("capture", lambda: os.open(f"{folder}/capture.pcapng", os.O_RDONLY))
refused("ctl", lambda: connect(f"{folder}/ctl"))
refused("new entry", lambda: os.mkdir(f"{base}/intruder"))
refused("rename base", lambda: os.rename(base, base + "-taken"))
refused("remove base", lambda: os.rmdir(base))
for who, pid in (("init", init), ("keeper", keeper), ("member", member)):
    for kind in ("user", "net", "mnt", "pid", "uts", "ipc", "cgroup"):
        refused(f"{who} ns {kind}", lambda: os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY))
    for entry in ("root/", "cwd/", "fd", "environ", "mem", "maps", "map_files"):
        path = f"/proc/{pid}/{entry}"
        directory = entry in ("root/", "cwd/", "fd", "map_files")
        refused(f"{who} {entry}", lambda: os.listdir(path) if directory else open(path, "rb").read(1))
    refused(f"{who} ctl by root", lambda: connect(f"/proc/{pid}/root{folder}/ctl"))
    for number in (0, signal.SIGTERM, signal.SIGKILL, signal.SIGSTOP, signal.SIGCONT):
        refused(f"{who} signal {int(number)}", lambda: os.kill(pid, number))
    refused(f"{who} pidfd", lambda: signal.pidfd_send_signal(os.pidfd_open(pid), signal.SIGTERM))
    refused(f"{who} pidfd_getfd", lambda: call(libc.syscall, 438, os.pidfd_open(pid), 0, 0))
    refused(f"{who} setns by pidfd", lambda: call(libc.setns, os.pidfd_open(pid), 0x10000000 | 0x40000000))
    refused(f"{who} attach", lambda: call(libc.ptrace, 16, pid, 0, 0))
    refused(f"{who} seize", lambda: call(libc.ptrace, 0x4206, pid, 0, 0))
    vector = (ctypes.c_uint64 * 2)(ctypes.addressof(octet), 1)
    refused(f"{who} read memory", lambda: call(libc.process_vm_readv, pid, vector, 1, vector, 1, 0))
    refused(f"{who} limits", lambda: resource.prlimit(pid, resource.RLIMIT_NOFILE, (1, 1)))
    refused(f"{who} niceness", lambda: os.setpriority(os.PRIO_PROCESS, pid, 19))
    refused(f"{who} oom", lambda: os.open(f"/proc/{pid}/oom_score_adj", os.O_WRONLY))
print(json.dumps(done))
"""


def _user(people: dict[str, Person], name: str, uid: int) -> Iterator[Person]:
    """An ordinary user whose runtime folder is below the machine's folder for temporary files."""
    home = people["user"].home.parent / name
    home.mkdir(mode=0o700)
    os.chown(home, uid, uid)
    person = replace(people["user"], name=name, uid=uid, home=home, env={"XDG_RUNTIME_DIR": ""})
    yield person
    person.wirelab("down", "--all", status=None)
    shutil.rmtree(home)


@pytest.fixture(scope="module")
def owner(people: dict[str, Person]) -> Iterator[Person]:
    """Who has labs."""
    yield from _user(people, "owner", OWNER_ID)


@pytest.fixture(scope="module")
def stranger(people: dict[str, Person]) -> Iterator[Person]:
    """Who wants into them."""
    yield from _user(people, "stranger", STRANGER_ID)


def base(person: Person) -> Path:
    """Where a user's run directories are without a runtime folder."""
    return Path(f"/tmp/wirelab-{person.uid}")


@pytest.fixture(scope="module")
def running(owner: Person) -> Iterator[str]:
    """A lab of the owner, verified once."""
    name = f"owned-{os.getpid()}"
    owner.wirelab("up", "nat", "--name", name)
    owner.wirelab("verify", name)
    yield name
    owner.wirelab("down", name)


def owner_of(pid: int) -> int | None:
    """Whose process it is; None when it has ended."""
    try:
        return os.stat(f"/proc/{pid}").st_uid
    except OSError:
        return None


def test_no_command_reaches_the_lab_of_another_user(owner: Person, stranger: Person, running: str) -> None:
    assert stranger.json("ps") == []
    for words in (
        ["exec", running, "pc1", "--", "true"],
        ["shell", running, "pc1"],
        ["capture", running, "-w", "-"],
        ["down", running],
        ["link", running, "web:eth0", "down"],
        ["ps", running],
        ["explain", running, "pc1", "--", "true"],
    ):
        assert f"no lab called {running} is running" in stranger.wirelab(*words, status=2).stderr
    assert f"there is no lab '{running}'" in stranger.wirelab("verify", running, status=2).stderr
    stranger.wirelab("down", "--all")
    lying = replace(stranger, env={"XDG_RUNTIME_DIR": str(base(owner))})
    assert lying.json("ps") == []
    assert [row["name"] for row in owner.json("ps")] == [running]
    assert owner.json("verify", running)["fail"] == 0


@pytest.mark.parametrize("how", ["directly", "as root of a user namespace of one's own"])
def test_the_kernel_refuses_every_way(owner: Person, stranger: Person, running: str, how: str) -> None:
    keeper, init = first_processes(base(owner), running)
    pids = [entry["pid"] for node in owner.json("ps", running)["nodes"] for entry in node["services"]]
    assert pids
    member = next(pid for pid in processes("dnsmasq") if owner_of(pid) == owner.uid)
    before = {pid: Path(f"/proc/{pid}/stat").read_text().split()[21] for pid in (keeper, init, member)}
    argv = [owner.python, "-c", ATTACK, str(base(owner)), running, *map(str, (init, keeper, member))]
    unshare = ["unshare", "--user", "--map-root-user", "--mount", "--net"] if how != "directly" else []
    done = stranger.run([*unshare, *argv])
    assert done.returncode == 0, done.stderr
    outcome = json.loads(done.stdout)
    assert len(outcome) > 60
    worked = {what: result for what, result in outcome.items() if not isinstance(result, int)}
    assert not worked
    assert set(outcome.values()) <= {1, 3, 13}, "EPERM, EACCES, ESRCH"
    for pid, started in before.items():
        assert Path(f"/proc/{pid}/stat").read_text().split()[21] == started
        assert Path(f"/proc/{pid}/stat").read_text().split()[2] != "T"
    assert owner.json("verify", running)["fail"] == 0


def test_command_lines_tell_names_and_nothing_that_was_agreed_to(
    owner: Person, stranger: Person, lab_name: str
) -> None:
    """The kernel shows them to everybody."""
    shared = owner.home / f"{lab_name}-agreed"
    shared.mkdir()
    os.chown(shared, owner.uid, owner.uid)
    file = owner.home / f"{lab_name}.yml"
    file.write_text(f'name: {lab_name}\nnodes: {{a: {{binds: ["{shared}:/opt/a"]}}, b: {{}}}}\nlinks: [[a, b]]\n')
    file.chmod(0o644)
    script = "cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' '; cat /proc/[0-9]*/environ 2>/dev/null; true"
    try:
        owner.wirelab("up", str(file), "--allow-binds")
        seen = stranger.run(["sh", "-c", script]).stdout
        assert f"{base(owner)}/{lab_name}" in seen, "the twin: what is in a command line is seen"
        assert shared.name not in seen
        assert shared.name in owner.run(["sh", "-c", script]).stdout, "the owner's own processes have it"
    finally:
        owner.wirelab("down", lab_name, status=None)
        shared.rmdir()


def test_the_same_ways_are_open_to_the_owner(owner: Person, running: str) -> None:
    """The twin: what is refused to others is refused because they are others."""
    keeper, init = first_processes(base(owner), running)
    folder = base(owner) / running
    script = (
        f"ls {base(owner)} {folder} /proc/{init}/fd >/dev/null && cat {folder}/lab.json >/dev/null &&"
        f" kill -0 {init} && kill -0 {keeper} && readlink /proc/{init}/ns/net"
    )
    assert owner.run(["sh", "-c", script]).returncode == 0
    assert (folder.stat().st_mode & 0o777, folder.stat().st_uid) == (0o700, owner.uid)
    assert (base(owner).stat().st_mode & 0o777, base(owner).stat().st_uid) == (0o700, owner.uid)
    for entry in folder.iterdir():
        assert entry.lstat().st_uid == owner.uid


def test_root_sees_everybody(
    owner: Person, stranger: Person, running: str, lab_name: str, people: dict[str, Person]
) -> None:
    root = people["root"]
    stranger.wirelab("up", "ping", "--name", lab_name)
    root.wirelab("up", "ping", "--name", f"{lab_name}-r")
    elsewhere = people["user"]
    elsewhere.wirelab("up", "ping", "--name", f"{lab_name}-x")
    try:
        rows = {(row["uid"], row["name"]): row for row in root.json("ps", "--all-users")}
        wanted = {
            (owner.uid, running): "nat", (stranger.uid, lab_name): "ping", (0, f"{lab_name}-r"): "ping",
            (elsewhere.uid, f"{lab_name}-x"): "ping",
        }  # fmt: skip
        assert {key: rows[key]["lab"] for key in wanted} == wanted
        row = rows[owner.uid, running]
        assert (row["nodes"], row["services"], row["failed"], row["user"]) == (13, 10, 0, str(owner.uid))
        assert row["pid"] == first_processes(base(owner), running)[1]
        assert row["directory"] == str(base(owner) / running)
        head, *lines = root.wirelab("ps", "--all-users").stdout.splitlines()
        assert head.split() == ["USER", "NAME", "LAB", "NODES", "SERVICES", "UP", "PID"]
        assert any(line.split()[:3] == [str(owner.uid), running, "nat"] for line in lines)
        for person in (owner, stranger):
            refused = person.wirelab("ps", "--all-users", status=3)
            assert refused.stderr == (
                "wirelab: only root can see the labs of all users\n  hint: sudo wirelab ps --all-users\n"
            )
            assert refused.stdout == ""
        root.wirelab("ps", running, "--all-users", status=2)
        os.kill(rows[stranger.uid, lab_name]["pid"], signal.SIGKILL)
        wait_until(lambda: (stranger.uid, lab_name) not in
                   {(row["uid"], row["name"]) for row in root.json("ps", "--all-users")}, "it is gone")  # fmt: skip
    finally:
        stranger.wirelab("down", lab_name, status=None)
        root.wirelab("down", f"{lab_name}-r")
        elsewhere.wirelab("down", f"{lab_name}-x")


HOSTILE = r"""
import fcntl, json, os, socket, sys, time
kind, base = sys.argv[1], sys.argv[2]
folder = f"{base}/evil"
os.makedirs(base, 0o700, exist_ok=True)
os.chmod(base, 0o700)
open("/proc/self/comm", "w").write("wirelab-keeper")
if kind == "link to a folder":
    os.symlink(sys.argv[3], folder)
    open(f"{base}/ready", "w"); time.sleep(100)
os.mkdir(folder, 0o700)
lock = os.open(f"{folder}/lock", os.O_RDWR | os.O_CREAT)
fcntl.flock(lock, fcntl.LOCK_EX)
facts = f"{folder}/lab.json"
link = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
link.bind(f"{folder}/ctl")
link.listen(8)
good = {"lab": "a lab", "started": 1, "nodes": {}}
if kind == "pipe":
    os.mkfifo(facts)
elif kind == "link":
    os.symlink(sys.argv[3], facts)
elif kind == "device":
    os.symlink("/dev/zero", facts)
elif kind == "large":
    with open(facts, "wb") as stream:
        stream.truncate(1 << 40)
elif kind == "deep":
    open(facts, "w").write("[" * 1_000_000)
elif kind == "types":
    open(facts, "w").write(json.dumps({"lab": {"x": 1}, "started": "now", "nodes": 7}))
elif kind == "escapes":
    open(facts, "w").write(json.dumps({**good, "lab": "\x1b[2J\x1b]0;owned\x07\nroot  mine"}))
else:
    open(facts, "w").write(json.dumps(good))
open(f"{base}/ready", "w")
if kind == "silent":
    time.sleep(100)
answer = {"ok": True, "services": [] if kind != "answers" else {"a": 1}}
while True:
    client, _ = link.accept()
    client.recv(65536)
    client.send(json.dumps(answer).encode())
    time.sleep(0.2)
    client.close()
"""


@pytest.mark.parametrize(
    "kind",
    ["pipe", "link", "link to a folder", "device", "large", "deep", "types", "escapes", "answers", "silent", "good"],
)
def test_what_a_hostile_user_puts_there_does_root_no_harm(
    stranger: Person, owner: Person, running: str, kind: str, people: dict[str, Person], tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_text(json.dumps({"lab": "a secret of root", "started": 1, "nodes": {}}))
    target = base(owner) / running if kind == "link to a folder" else secret
    folder = stranger.home / "hostile"
    shutil.rmtree(folder, ignore_errors=True)
    argv = [stranger.python, "-c", HOSTILE, kind, str(folder), str(target)]
    with stranger.popen(argv, env={**stranger.environment(), "XDG_RUNTIME_DIR": str(folder)}) as process:
        try:
            wait_until((folder / "ready").exists, "the trap is set")
            # its place is told as a keeper tells it: the fourth argument
            lying = stranger.popen([stranger.python, "-c", LIAR, "x", f"{folder}/evil"], env=stranger.environment())
            try:
                wait_until(lambda: "wirelab-keeper" in Path(f"/proc/{lying.pid}/comm").read_text(), "it lies")
                began = time.monotonic()
                done = people["root"].wirelab("ps", "--all-users")
                assert time.monotonic() - began < 20
                rows = people["root"].json("ps", "--all-users")
            finally:
                lying.kill()
                lying.wait()
        finally:
            process.kill()
    mine = [row for row in rows if row["uid"] == stranger.uid]
    assert running in [row["name"] for row in rows], "the others are shown"
    assert "secret" not in done.stdout + done.stderr + json.dumps(rows)
    assert "\x1b" not in done.stdout + done.stderr
    assert [row["name"] for row in mine] == (["evil"] if kind in ("good", "escapes") else [])
    if kind == "escapes":
        assert "\\x1b[2J" in done.stdout
        assert not any(line.startswith("root  mine") for line in done.stdout.splitlines())
    if kind == "silent":
        assert f"the labs of {stranger.uid} cannot be seen: reading them took longer than 5 s" in done.stderr
    shutil.rmtree(folder)


LIAR = "import time; open('/proc/self/comm', 'w').write('wirelab-keeper'); time.sleep(100)"


@pytest.mark.parametrize("kind", ["folder", "link", "file", "open"])
def test_a_place_that_somebody_else_made_first_is_not_used(people: dict[str, Person], kind: str, lab_name: str) -> None:
    """In /tmp anybody can take the name first; then there is an error, and nothing of the lab is given away."""
    victim = replace(people["user"], uid=VICTIM_ID, home=Path("/"), env={"XDG_RUNTIME_DIR": ""})
    place = base(victim)
    assert not place.exists()
    trap = Path(f"/tmp/{lab_name}-trap")
    try:
        if kind == "folder":
            place.mkdir(0o777)
        elif kind == "link":
            trap.mkdir()
            os.chown(trap, victim.uid, victim.uid)
            trap.chmod(0o700)
            place.symlink_to(trap)
        elif kind == "file":
            place.touch()
        else:
            place.mkdir()
            place.chmod(0o755)
        os.chown(place, victim.uid if kind == "open" else STRANGER_ID, STRANGER_ID, follow_symlinks=False)
        for words in (["up", "ping"], ["ps"], ["down", "--all"], ["verify", "ping"]):
            refused = victim.wirelab(*words, status=3)
            assert f"{place} is not a private folder of yours" in refused.stderr
        assert not trap.exists() or not list(trap.iterdir())
        assert not processes(f"init.py {place}")
    finally:
        if place.is_symlink() or place.is_file():
            place.unlink()
        else:
            place.rmdir()
        with contextlib.suppress(FileNotFoundError):
            trap.rmdir()


def test_a_runtime_folder_that_others_can_write_is_not_used(people: dict[str, Person], lab_name: str) -> None:
    runtime = people["user"].home / "open-runtime"
    runtime.mkdir()
    os.chown(runtime, people["user"].uid, people["user"].uid)
    person = replace(people["user"], env={"XDG_RUNTIME_DIR": str(runtime)})
    for mode, used in ((0o777, False), (0o770, False), (0o700, True)):
        runtime.chmod(mode)
        person.wirelab("up", "ping", "--name", lab_name)
        try:
            assert (runtime / "wirelab" / lab_name).exists() == used
        finally:
            person.wirelab("down", lab_name)
    runtime.rmdir()


def test_a_place_that_is_taken_in_the_last_moment(tmp_path: Path, people: dict[str, Person]) -> None:
    """The keeper looks again after it made the folder: one that a stranger made in between is refused."""
    place = tmp_path / "base"
    place.mkdir()
    os.chown(place, STRANGER_ID, STRANGER_ID)
    reading, writing = os.pipe()
    lifeline, other = os.pipe()
    program = people["root"].installation / "emulator" / "run" / "init.py"
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(program), str(place / "lab"), "lab", str(lifeline), str(writing)],
        pass_fds=(lifeline, writing), check=False, timeout=20,
    )  # fmt: skip
    os.close(writing)
    assert done.returncode == 1
    assert json.loads(os.read(reading, 4096))["error"] == "directory"
    assert not list(place.iterdir())
    for descriptor in (reading, lifeline, other):
        os.close(descriptor)


def test_no_abstract_socket_is_used(running: str) -> None:
    """They have no owner: whoever shares the network namespace can connect."""
    names = [line.split()[-1] for line in Path("/proc/net/unix").read_text().splitlines() if " @" in line]
    assert not [name for name in names if "wirelab" in name or running in name]
