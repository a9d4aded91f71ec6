"""What this machine has and lacks for labs; asked, not guessed."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from emulator.run import tools


@dataclass(frozen=True)
class Finding:
    """One thing that labs need: whether it is there, what was seen, and what to do when it is not."""

    name: str
    ok: bool
    text: str
    hint: str | None = None


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii").strip()
    except OSError:
        return ""


def namespace_hint(number: int) -> str:
    """What to change when the kernel refuses new namespaces with `errno` number."""
    if _read("/proc/sys/kernel/unprivileged_userns_clone") == "0":
        return "sudo sysctl kernel.unprivileged_userns_clone=1, or use sudo"
    if _read("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == "1":
        return "sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0, or use sudo"
    for kind in ("user", "net", "mnt", "pid", "uts", "ipc"):
        if _read(f"/proc/sys/user/max_{kind}_namespaces") == "0":
            return f"sudo sysctl user.max_{kind}_namespaces=10000"
    if number in (errno.EMFILE, errno.ENFILE):
        return "too few files may be open at once: ulimit -n, ulimit -Hn"
    if number == errno.ENOSPC:
        return "a limit is reached: wirelab down --all, or raise user.max_user_namespaces and user.max_net_namespaces"
    if number in (errno.EPERM, errno.EACCES):
        return "this machine or container forbids user namespaces (seccomp, LSM); use sudo, or allow them"
    return "wirelab doctor"


_PROBE = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
def call(name, *arguments):
    if getattr(libc, name)(*arguments) < 0:
        sys.exit(f"{name}: {os.strerror(ctypes.get_errno())}\\n{ctypes.get_errno()}")
uid, gid = os.geteuid(), os.getegid()
call("unshare", 0x10000000)
open("/proc/self/setgroups", "w").write("deny")
open("/proc/self/uid_map", "w").write(f"0 {uid} 1")
open("/proc/self/gid_map", "w").write(f"0 {gid} 1")
call("unshare", 0x40000000 | 0x20000 | 0x4000000 | 0x8000000 | 0x20000000)
child = os.fork()
if child:  # the first process of the new PID namespace does the rest
    os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
libc.mount(b"none", b"/", None, 0x44000, None)  # private, so that nothing is seen outside
libc.mount(b"tmpfs", b"/run", b"tmpfs", 0, None)  # iptables keeps its lock there
def attempt(name, *command):
    pid = os.fork()
    if pid == 0:
        os.dup2(os.open("/dev/null", os.O_WRONLY), 1); os.dup2(2, 1)
        os.environ["PATH"] += ":/usr/sbin:/sbin"
        try: os.execvp(command[0], command)
        finally: os._exit(127)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    print(name, status, flush=True)
sys.stderr = open(os.devnull, "w")
os.dup2(os.open("/dev/null", os.O_WRONLY), 2)
attempt("veth", "ip", "link", "add", "name", "probe0", "type", "veth", "peer", "name", "probe1")
attempt("bridge", "ip", "link", "add", "name", "probe2", "type", "bridge")
attempt("nat", "iptables", "-t", "nat", "-A", "POSTROUTING", "-o", "probe0", "-j", "MASQUERADE")
attempt("raw", "iptables", "-t", "raw", "-A", "PREROUTING", "-m", "comment", "--comment", "x", "-j", "DROP")
attempt("state", "iptables", "-A", "FORWARD", "-m", "conntrack", "--ctstate", "RELATED", "-j", "ACCEPT")
attempt("conntrack", "conntrack", "-L")
"""

_FEATURES = {
    "veth": ("virtual cables (veth)", "kernel option CONFIG_VETH: modprobe veth"),
    "bridge": ("switches (bridge)", "kernel option CONFIG_BRIDGE: modprobe bridge"),
    "nat": ("address translation (iptables nat)", "kernel option CONFIG_NF_NAT, and CONFIG_NFT_MASQ or iptable_nat"),
    "raw": ("dropping before tracking (iptables raw)", "kernel option CONFIG_IP_NF_RAW or CONFIG_NF_TABLES"),
    "state": ("connection tracking (nf_conntrack)", "kernel option CONFIG_NF_CONNTRACK: modprobe nf_conntrack"),
    "conntrack": ("reading connections (nf_conntrack_netlink)", "kernel option CONFIG_NF_CT_NETLINK"),
}


def examine(programs: Iterable[str]) -> list[Finding]:
    """All findings for labs that need `programs`."""
    findings = [_python()]
    probe = subprocess.run(
        [sys.executable, "-I", "-S", "-c", _PROBE], capture_output=True, text=True, timeout=60, check=False
    )
    if probe.returncode:
        text, _, number = probe.stderr.strip().rpartition("\n")
        hint = namespace_hint(int(number) if number.isdigit() else 0)
        findings.append(Finding("namespaces", False, text or probe.stderr.strip()[-200:], hint))
    else:
        who = "by root" if os.geteuid() == 0 else "without root"
        findings.append(
            Finding("namespaces", True, f"user, network, mount, PID, UTS and IPC namespaces can be made {who}")
        )
        results = dict(line.split() for line in probe.stdout.splitlines() if len(line.split()) == 2)
        for name, (text, hint) in _FEATURES.items():
            needs = "conntrack" if name == "conntrack" else "ip" if name in ("veth", "bridge") else "iptables-restore"
            if tools.find(needs) is None:
                continue
            findings.append(Finding(name, results.get(name) == "0", text, hint))
    for program in sorted(set(programs)):
        path = tools.find(program)
        advice = None if path else tools.package_hint([program])
        findings.append(Finding(program, path is not None, path or "not found", advice))
    return findings


def _python() -> Finding:
    version = ".".join(str(part) for part in sys.version_info[:3])
    return Finding("python", sys.version_info >= (3, 11), f"Python {version}", "Python 3.11 or newer")
