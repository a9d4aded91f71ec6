"""What runs in a node tries to reach the machine: its files, processes, settings, clock, sockets. All of it is refused,
whether an ordinary user or root started the lab."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Person
from tests.live.conftest import wait_until
from tests.live.two_nodes import lab_file

ATTACK = r"""
import contextlib, ctypes, glob, json, os, resource, signal, socket, stat, struct, sys, time
host = json.loads(sys.argv[1])
done = {}
libc = ctypes.CDLL(None, use_errno=True)

def tried(what, function):
    try:
        result = function()
    except OSError as error:
        done[what] = error.errno
    except Exception as error:
        done[what] = f"the attempt failed: {type(error).__name__}: {error}"
    else:
        done[what] = f"worked: {result!r}"[:300]

def call(result):
    if result < 0:
        raise OSError(ctypes.get_errno(), "")
    return result

def write(path, text="x"):
    descriptor = os.open(path, os.O_WRONLY)
    try:
        return os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)

def in_a_child(function):  # for what would change the rest, if it worked
    child = os.fork()
    if child == 0:
        try:
            function()
        except OSError as error:
            os._exit(error.errno)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status:
        raise OSError(status, "")

# the machine's files
for path in host["files"]:
    tried(f"read {path}", lambda: open(path, "rb").read(10))
    tried(f"change {path}", lambda: open(path, "ab").write(b"x"))
    tried(f"list {path}", lambda: os.listdir(os.path.dirname(path)))
    for up in ("/proc/1/root", "/proc/self/root", "/proc/1/cwd", f"/proc/{os.getppid()}/root", "/..", "/dev/shm/../.."):
        tried(f"read {up}{path}", lambda: open(up + path, "rb").read(10))
    tried(f"remove {path}", lambda: os.unlink(path))
for folder in ("/", "/usr", "/usr/bin", "/usr/lib", "/etc", "/home", "/dev", "/sys", "/proc/sys/kernel", "/var"):
    tried(f"create in {folder}", lambda: os.close(os.open(f"{folder}/wirelab-was-here", os.O_CREAT | os.O_WRONLY)))
for path in ("/usr/bin/env", "/etc/passwd", "/dev/null", "/dev/urandom", "/usr", "/etc", "/dev"):
    tried(f"chmod {path}", lambda: os.chmod(path, 0o777))
    tried(f"chown {path}", lambda: os.chown(path, 0, 0))
    tried(f"utime {path}", lambda: os.utime(path))
    tried(f"xattr {path}", lambda: os.setxattr(path, "user.x", b"x"))
for path in ("/etc/shadow", "/etc/gshadow", "/etc/sudoers"):
    if os.path.exists(path):
        tried(f"secret {path}", lambda: open(path, "rb").read(1) or call(libc.kill(1 << 30, 0)))

# mounts
for source, target, kind, flags in (
    ("", "/", "", 0x20 | 0x1000), ("", "/usr", "", 0x20 | 0x1000), ("", "/etc", "", 0x20 | 0x1000),
    ("", "/proc/sys", "", 0x20 | 0x1000), ("x", "/tmp", "tmpfs", 0), ("proc", "/tmp", "proc", 0),
    ("sysfs", "/tmp", "sysfs", 0), ("devtmpfs", "/tmp", "devtmpfs", 0), ("/usr", "/tmp", "", 0x1000),
):
    tried(f"mount {source} {target} {kind} {flags}",
          lambda: call(libc.mount(source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), None)))
for place in ("/etc", "/usr", "/proc/sys", "/proc", "/sys", "/.lab", "/.shared", "/run", "/dev/null", "/"):
    tried(f"unmount {place}", lambda: call(libc.umount2(place.encode(), 2)))
tried("pivot_root", lambda: in_a_child(lambda: (libc.unshare(0x20000), call(libc.pivot_root(b"/tmp", b"/tmp")))))
tried("enter the lab's first process", lambda: call(libc.setns(os.open("/proc/1/ns/mnt", os.O_RDONLY), 0)))
tried("open_tree", lambda: call(libc.syscall(428, -100, b"/usr", 1)))
tried("fsopen", lambda: call(libc.syscall(430, b"tmpfs", 0)))
tried("mount_setattr", lambda: call(libc.syscall(442, -100, b"/", 0x8000, struct.pack("4Q", 0, 1, 0, 0), 32)))
tried("mknod", lambda: os.mknod("/tmp/disk", stat.S_IFBLK | 0o600, os.makedev(*host["disk"])))
handle = ctypes.create_string_buffer(struct.pack("Ii", 8, 1) + struct.pack("II", 2, 0), 64)
tried("open_by_handle_at", lambda: call(libc.open_by_handle_at(os.open("/usr", os.O_RDONLY), handle, os.O_RDONLY)))
done["devices"] = sorted(name for name in os.listdir("/dev"))

# processes
tried("signal the first process for the user", lambda: call(libc.ptrace(16, 1, 0, 0)))
tried("seize the first process", lambda: call(libc.ptrace(0x4206, 1, 0, 0)))
for name in os.listdir("/proc/1/fd") if os.access("/proc/1/fd", os.R_OK) else ():  # they are seen, and no more
    tried(f"descriptor {name} of the first process", lambda: os.open(f"/proc/1/fd/{name}", os.O_RDONLY | os.O_PATH))
    tried(f"link {name} of the first process", lambda: os.readlink(f"/proc/1/fd/{name}"))
for entry in ("root", "cwd", "exe", "environ", "mem", "maps", "ns/mnt", "ns/net"):
    path = f"/proc/1/{entry}"
    tried(f"first process {entry}", lambda: open(path, "rb").read(1) if entry in ("environ", "mem", "maps") else
          os.readlink(path))
tried("memory of the first process", lambda: call(libc.process_vm_readv(
    1, (ctypes.c_uint64 * 2)(0, 1), 1, (ctypes.c_uint64 * 2)(0, 1), 1, 0)))
tried("descriptors of the first process", lambda: call(libc.syscall(438, os.pidfd_open(1), 3, 0)))
done["seen"] = []
for pid in os.listdir("/proc"):
    with contextlib.suppress(OSError):
        done["seen"] += [open(f"/proc/{pid}/comm").read().strip()] if pid.isdigit() else []
for pid in host["pids"]:
    tried(f"signal {pid}", lambda: os.kill(pid, 0) if open(f"/proc/{pid}/comm").read().strip() == "outsider" else
          call(libc.kill(1 << 30, 0)))

# the kernel
for path in ("kernel/core_pattern", "kernel/hostname", "kernel/sysrq", "kernel/modprobe", "vm/swappiness",
             "vm/overcommit_memory", "fs/file-max", "fs/protected_symlinks", "user/max_user_namespaces",
             "kernel/panic", "vm/drop_caches", "dev/cdrom/autoclose"):
    if os.path.exists(f"/proc/sys/{path}"):
        tried(f"set {path}", lambda: write(f"/proc/sys/{path}", "1"))
for path in ("/proc/sysrq-trigger", "/proc/irq/default_smp_affinity", "/sys/kernel/uevent_helper", "/sys/power/state",
             "/sys/kernel/mm/ksm/run", "/sys/module/kernel/parameters/panic", *glob.glob("/proc/bus/pci/*/*")[:1],
             *glob.glob("/sys/block/*/queue/read_ahead_kb")[:1], "/sys/fs/cgroup/cgroup.procs"):
    tried(f"write {path}", lambda: write(path, "1"))
tried("init_module", lambda: call(libc.syscall(host["init_module"], b"x", 1, b"")))
tried("finit_module", lambda: call(libc.syscall(host["finit_module"], os.open("/usr/bin/env", os.O_RDONLY), b"", 0)))
code = ctypes.create_string_buffer(bytes.fromhex("b7000000000000009500000000000000"))
terms = ctypes.create_string_buffer(b"GPL")
program = struct.pack("IIQQ", 6, 2, ctypes.addressof(code), ctypes.addressof(terms)).ljust(128, b"\0")
tried("bpf", lambda: call(libc.syscall(host["bpf"], 5, program, len(program))))  # one for XDP that lets nothing pass
tried("perf_event_open", lambda: call(libc.syscall(
    host["perf"], ctypes.create_string_buffer(struct.pack("IIQ", 1, 128, 0), 128), -1, 0, -1, 0)))
tried("kexec", lambda: call(libc.syscall(host["kexec"], 0, 0, None, 0)))
tried("swapon", lambda: call(libc.swapon(b"/usr/bin/env", 0)))
tried("syslog", lambda: call(libc.klogctl(5, None, 0)))
tried("kernel log", lambda: os.open("/dev/kmsg", os.O_RDONLY))
tried("acct", lambda: call(libc.acct(b"/tmp/acct")))
tried("iopl", lambda: call(libc.iopl(3)) if hasattr(libc, "iopl") else call(libc.kill(1 << 30, 0)))
tried("clock_settime", lambda: time.clock_settime(time.CLOCK_REALTIME, time.time()))
class Timex(ctypes.Structure):
    _fields_ = [("modes", ctypes.c_uint), ("rest", ctypes.c_char * 252)]
tried("adjtimex", lambda: call(libc.adjtimex(ctypes.byref(Timex(modes=2)))))
tried("settimeofday", lambda: call(libc.settimeofday((ctypes.c_long * 2)(int(time.time()), 0), None)))
tried("sethostname", lambda: socket.sethostname("owned"))
tried("limits", lambda: call(libc.setrlimit(13, (ctypes.c_ulong * 2)(99, 99))))
tried("real time", lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(50)))
room = ctypes.create_string_buffer(64)
tried("read a key of the user", lambda: call(libc.syscall(host["keyctl"], 11, int(host["key"]), room, 64)))
tried("add a key", lambda: call(libc.syscall(host["add_key"], b"user", b"x", b"x", 1, -3)))

# sockets
def reach(address):
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
        link.connect(address)
for address in host["sockets"]:
    tried(f"socket {address!r}", lambda: reach(address.replace("@", "\0")))
for port in host["ports"]:
    tried(f"port {port}", lambda: socket.create_connection(("127.0.0.1", port), 1).close())
done["interfaces"] = sorted(name for _, name in socket.if_nameindex())
done["abstract"] = [line.split()[-1] for line in open("/proc/net/unix") if " @" in line]

# a user namespace of one's own gives no more
child = os.fork()
if child == 0:
    inner = {}
    def again(what, function):
        try:
            function()
        except OSError as error:
            inner[what] = error.errno
        else:
            inner[what] = "worked"
    again("unshare", lambda: call(libc.unshare(0x10000000 | 0x20000)) and call(libc.kill(1 << 30, 0)))
    for place in ("/etc", "/usr", "/proc/sys", "/.lab", "/", "/run"):
        again(f"unmount {place}", lambda: call(libc.umount2(place.encode(), 2)))
        again(f"remount {place}", lambda: call(libc.mount(b"", place.encode(), b"", ctypes.c_ulong(0x1020), None)))
    again("proc", lambda: call(libc.unshare(0x20000000)) or
          call(libc.mount(b"p", b"/tmp", b"proc", ctypes.c_ulong(0), None)))
    again("first process", lambda: os.readlink("/proc/1/root"))
    again("write /etc", lambda: os.open("/etc/passwd", os.O_WRONLY))
    os.write(1, (json.dumps({"inner": inner}) + "\n").encode())
    os._exit(0)
os.waitpid(child, 0)
print(json.dumps(done))
"""

SYSCALLS = {
    "x86_64": {"init_module": 175, "finit_module": 313, "bpf": 321, "perf": 298, "kexec": 246, "keyctl": 250,
               "add_key": 248},
    "aarch64": {"init_module": 105, "finit_module": 273, "bpf": 280, "perf": 241, "kexec": 104, "keyctl": 219,
                "add_key": 217},
}  # fmt: skip
REFUSALS = {1, 2, 3, 13, 16, 22, 30, 38, 95, 111}
"""EPERM, ENOENT, ESRCH, EACCES, EBUSY, EINVAL, EROFS, ENOSYS, EOPNOTSUPP, ECONNREFUSED."""
FORBIDDEN = {1, 13, 38}
"""EPERM, EACCES, ENOSYS: not allowed, whatever the arguments."""
RIGHTS = {
    "pivot_root", "open_tree", "fsopen", "mount_setattr", "mknod", "open_by_handle_at", "init_module", "finit_module",
    "bpf", "perf_event_open", "kexec", "swapon", "syslog", "acct", "iopl", "clock_settime", "adjtimex", "settimeofday",
    "sethostname", "real time", "read a key of the user", "add a key", "mount x /tmp tmpfs 0", "unmount /etc",
}  # fmt: skip
"""Attempts of which the kernel has to say that they are not allowed: with the rights they would work, or go further."""

WITH_KEY = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
assert libc.syscall(int(sys.argv[2]), 1, None) > 0
key = libc.syscall(int(sys.argv[1]), b"user", b"of-the-session", b"a secret", 8, -3)
assert key > 0, ctypes.get_errno()
os.execvp(sys.argv[3], [word.replace("THE-KEY", str(key)) for word in sys.argv[3:]])
"""
"""Become a program in a session of its own that has a key (keyctl(2)), whose number stands for THE-KEY."""


@pytest.fixture
def host(person: Person, lab_name: str) -> Iterator[dict[str, Any]]:
    """Things of the machine that a node is not to reach, which this person could reach from outside."""
    secret = person.home / "secret"
    secret.write_text("a secret")
    secret.chmod(0o644)
    if os.geteuid() == 0:
        os.chown(secret, person.uid, person.uid)
    sock = person.home / "sock"
    outside = Path(f"/var/lib/{lab_name}.sock") if os.geteuid() == 0 else sock
    with (
        socket.socket(socket.AF_UNIX) as by_path,
        socket.socket(socket.AF_UNIX) as elsewhere,
        socket.socket(socket.AF_UNIX) as abstract,
        socket.socket() as tcp,
        person.popen(
            ["/bin/sh", "-c", "echo outsider >/proc/self/comm; echo; read x"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as outsider,
    ):
        assert outsider.stdout and outsider.stdout.readline() == "\n"
        by_path.bind(str(sock))
        sock.chmod(0o777)
        if outside != sock:
            elsewhere.bind(str(outside))
            outside.chmod(0o777)
            elsewhere.listen()
        abstract.bind(f"\0{lab_name}")
        tcp.bind(("127.0.0.1", 0))
        for listener in (by_path, abstract, tcp):
            listener.listen()
        disk = os.stat(person.home).st_dev
        yield {
            "files": [str(secret), "/var/lib/dpkg/status", "/boot/grub/grub.cfg"],
            "pids": [outsider.pid, os.getpid()],
            "sockets": [str(sock), str(outside), f"@{lab_name}", "/run/docker.sock", "/var/run/docker.sock",
                        "/run/dbus/system_bus_socket", "/tmp/.X11-unix/X0", "@/tmp/.X11-unix/X0"],
            "ports": [tcp.getsockname()[1]],
            "disk": [os.major(disk), os.minor(disk)],
            "key": "THE-KEY",
            **SYSCALLS[os.uname().machine],
        }  # fmt: skip
        outsider.communicate()
    sock.unlink()
    outside.unlink(missing_ok=True)
    secret.unlink(missing_ok=True)


@pytest.fixture
def lab(person: Person, lab_name: str, nothing_left: Callable[[], None]) -> Iterator[str]:
    """A running lab."""
    person.wirelab("up", str(lab_file(person, lab_name)))
    yield lab_name
    person.wirelab("down", lab_name)
    shutil.rmtree(person.home / f"{lab_name}-lab")


def attack(person: Person, host: dict[str, Any], *around: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """What came of all attempts, made by a Python that `around` starts: attempt → number of the error, or what worked;
    and the same of those in a user namespace of its own."""
    calls = [str(host["add_key"]), str(host["keyctl"])]
    argv = [person.python, "-c", WITH_KEY, *calls, *around, "/usr/bin/python3", "-", json.dumps(host)]
    with tempfile.TemporaryFile("w+") as script:
        script.write(ATTACK)
        script.seek(0)
        done = person.run(argv, stdin=script)
    assert done.returncode == 0, done.stderr
    inner, outcome = (json.loads(line) for line in done.stdout.splitlines())
    return outcome, inner["inner"]


def test_every_way_out_is_refused(person: Person, lab: str, host: dict[str, Any]) -> None:
    before = {path: Path(path).stat() for path in ("/etc/passwd", "/dev/null", "/usr/bin/env", host["files"][0])}
    outcome, inner = attack(person, host, *person.argv("exec", lab, "a", "--"))
    seen, devices = outcome.pop("seen"), outcome.pop("devices")
    interfaces, abstract = outcome.pop("interfaces"), outcome.pop("abstract")
    assert len(outcome) > 120
    worked = {what: result for what, result in outcome.items() if result not in REFUSALS}
    assert not worked, "\n".join(f"{what}: {result}" for what, result in worked.items())
    assert set(outcome) >= RIGHTS
    assert {what: outcome[what] for what in RIGHTS if outcome[what] not in FORBIDDEN} == {}
    assert {what: result for what, result in inner.items() if result not in REFUSALS and what != "unshare"} == {}
    assert set(seen) <= {"wirelab-init", "python3", "init.py", "wirelab"}
    assert set(devices) == {"null", "zero", "full", "random", "urandom", "tty", "net", "pts", "ptmx", "shm", "fd",
                            "stdin", "stdout", "stderr"}  # fmt: skip
    assert interfaces == ["eth0", "lo"]
    assert abstract == []
    for path, info in before.items():
        now = Path(path).stat()
        assert (now.st_mode, now.st_uid, now.st_mtime_ns, now.st_ctime_ns) == (
            info.st_mode, info.st_uid, info.st_mtime_ns, info.st_ctime_ns,
        )  # fmt: skip
    assert Path(host["files"][0]).read_text() == "a secret"
    assert not list(Path("/").glob("wirelab-was-here"))
    assert person.wirelab("exec", lab, "b", "--", "hostname").stdout == "b\n"


@pytest.mark.parametrize("person", ["user"], indirect=True)
def test_the_same_attempts_work_in_a_user_namespace_that_is_no_lab(person: Person, host: dict[str, Any]) -> None:
    """The twin of the attempts themselves: where nothing but the user's own rights holds them back, those at what is
    the user's succeed. (Not as root: there they would change the machine.)"""
    secret, abstract = host["files"][0], host["sockets"][2]
    outcome, _ = attack(person, host, "unshare", "--user", "--map-root-user", "--mount", "--uts")
    own = {
        *(f"{verb} {secret}" for verb in ("read", "change", "list", "remove")),
        f"read /proc/self/root{secret}", f"read /..{secret}",
        f"signal {host['pids'][0]}", f"socket {abstract!r}", f"port {host['ports'][0]}",
        "mount x /tmp tmpfs 0", "pivot_root", "open_tree", "fsopen", "sethostname",
        "read a key of the user", "add a key",
    }  # fmt: skip
    assert {what: outcome.get(what) for what in own if not str(outcome.get(what)).startswith("worked")} == {}
    assert not Path(secret).exists()


def test_the_same_is_reached_from_outside(person: Person, host: dict[str, Any]) -> None:
    """The twin: what a node is refused is there, and this person reaches it outside of a lab."""
    script = (
        "import json, os, socket, sys; host = json.loads(sys.argv[1])\n"
        "assert open(host['files'][0]).read() == 'a secret'\n"
        "for address in host['sockets'][:3]:\n"
        "    with socket.socket(socket.AF_UNIX) as link: link.connect(address.replace('@', chr(0)))\n"
        "socket.create_connection(('127.0.0.1', host['ports'][0]), 1).close()\n"
        "assert os.path.exists(f\"/proc/{host['pids'][0]}/comm\")\n"
    )
    done = person.run([person.python, "-c", script, json.dumps(host)])
    assert done.returncode == 0, done.stderr


def test_a_node_can_still_do_its_work(person: Person, lab: str) -> None:
    """What nodes are for is not refused: their network, their settings, their files, other users where there are."""
    script = """
        set -e
        ip link add dummy0 type veth peer name dummy1; ip link del dummy0
        iptables -A INPUT -p icmp -j ACCEPT; iptables -F
        sysctl -qw net.ipv4.ip_default_ttl=99; [ "$(cat /proc/sys/net/ipv4/ip_default_ttl)" = 99 ]
        tcpdump -Z root -c1 -i lo -w /tmp/x -U >/dev/null 2>&1 & ping -c2 -i0.2 127.0.0.1 >/dev/null
        for place in /tmp /run /root /var/tmp /var/log /dev/shm; do echo x >$place/mine; done
        head -c 8 /dev/urandom >/dev/null; echo x >/dev/null
        python3 -c "import os; os.openpty(); import pty, ssl, ctypes"
        test -r /etc/passwd; test -r /etc/ssl/certs; id -un; getent services http
        ls /sys/class/net
    """
    done = person.wirelab("exec", lab, "a", "--", "sh", "-c", script)
    assert done.stdout.split() == ["root", "http", "80/tcp", "www", "eth0", "lo"]
    own = Path("/proc/sys/net/ipv4/ip_default_ttl").read_text()
    assert own != "99\n"
    assert person.wirelab("exec", lab, "b", "--", "ls", "/root", "/run").stdout.split("\n")[1] == ""


ESCAPES = r"""
name: {name}
nodes:
  a: {{programs: {{bad: {{run: [sh, -c, 'printf "\033]0;owned\007 \033[31mred\n" >&2; exit 3']}}}}}}
  b: {{}}
links: [[a, b]]
scenes: [{{name: say, steps: [{{on: a, run: [printf, '\033]0;owned\007 \033[31mred'], id: said}}]}}]
checks: [{{name: fine, layer: application, check: output, step: said, matches: "^fine$"}}]
"""


def test_what_a_node_shows_does_not_reach_the_terminal(
    person: Person, lab_name: str, nothing_left: Callable[[], None]
) -> None:
    """The last words of a service and what a step printed are escaped; only `exec` and `shell` pass on what a command
    prints, as they are asked to."""
    file = person.home / f"{lab_name}.yml"
    file.write_text(ESCAPES.format(name=lab_name))
    file.chmod(0o644)
    person.wirelab("up", str(file))
    wait_until(lambda: "status 3" in person.wirelab("ps").stdout, "it has ended")
    log = (person.runs / lab_name / "log" / "a-bad.log").read_bytes()
    assert log == b"\x1b]0;owned\x07 \x1b[31mred\n", "the twin: there is something to be escaped"
    one = person.wirelab("ps", lab_name)
    verify = person.wirelab("verify", lab_name, status=1)
    fault = person.wirelab("fault", lab_name, "restart", "a:bad", status=None)
    for shown in (one, verify):
        assert r"\x1b]0;owned\x07 \x1b[31mred" in shown.stdout
    everything = (one, verify, fault, person.wirelab("ps"), person.wirelab("ps", lab_name, "--json"))
    assert not [said for done in everything for said in (done.stdout, done.stderr) if {"\x1b", "\x07"} & set(said)]
    assert person.wirelab("exec", lab_name, "a", "--", "printf", r"\033[31m").stdout == "\x1b[31m"
    person.wirelab("down", lab_name)
