"""Waiting until a service answers, by asking it. The calling thread is in the node's network namespace."""

from __future__ import annotations

import errno
import re
import select
import socket
import struct
import time
from collections.abc import Callable
from pathlib import Path

from emulator.plan.ops import Condition
from emulator.run import private_files
from emulator.run.spawn import PATH

_TCP_LISTEN = "0A"
_TENTATIVE = 0x40
_SCOPE_GLOBAL = 0
_ASK_AGAIN_S = 0.004
_LOOK_AFTER_S = 0.05


def wait_for(condition: Condition, private: Path, timeout_s: float, ended: Callable[[], str | None]) -> str | None:
    """Wait until `condition` holds.

    Args:
        private: the folder with the files that only the node sees.
        ended: says how the service ended, or None while it runs.

    Returns:
        None, or what went wrong in words: the service ended, or did not answer in time.
    """
    deadline = time.monotonic() + timeout_s
    look_at = time.monotonic() + _LOOK_AFTER_S
    while True:
        if _holds(condition, private):
            return ended()  # another program that has the port may have answered
        now = time.monotonic()
        if now >= look_at:
            trouble = ended()
            if trouble:
                return trouble
            look_at = now + _LOOK_AFTER_S
        if now >= deadline:
            return f"does not answer after {timeout_s:g} s"
        time.sleep(_ASK_AGAIN_S)


def _holds(condition: Condition, private: Path) -> bool:
    if condition.kind == "file":
        return private_files.exists(private, condition.path)
    if condition.kind == "udp-port":
        return _bound("udp", condition.port)
    if condition.kind == "tcp-port":
        return _bound("tcp", condition.port, state=_TCP_LISTEN)
    if condition.kind == "ipv6":
        return _ipv6_settled(condition.path.split())
    if condition.kind == "stp":
        return _stp_settled()
    if condition.kind == "tcp":
        return _connects(condition.address, condition.port)
    return _answers_dns(condition.address, condition.port)


def _connects(address: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as sock:
        sock.settimeout(0.5)
        return sock.connect_ex((address, port)) == 0


def _answers_dns(address: str, port: int) -> bool:
    """Whether anything that is a DNS answer comes back to `version.bind CH TXT`, which servers answer themselves."""
    question = struct.pack(">HHHHHH", 0x574C, 0, 1, 0, 0, 0) + b"\x07version\x04bind\x00" + struct.pack(">HH", 16, 3)
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect((address, port))
            sock.send(question)
            if not select.select([sock], [], [], 0.25)[0]:
                return False
            return sock.recv(4096)[:2] == question[:2]
        except OSError as error:
            if error.errno in (errno.ECONNREFUSED, errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL):
                return False
            raise


def _bound(protocol: str, port: int, state: str = "") -> bool:
    """Whether a socket has the port, IPv4 or IPv6, and is in `state` (proc_net_tcp in the kernel's documentation)."""
    for version in ("", "6"):
        try:
            with open(f"/proc/thread-self/net/{protocol}{version}", encoding="ascii") as table:
                rows = [line.split() for line in list(table)[1:]]
        except FileNotFoundError:
            continue
        if any(row[1].endswith(f":{port:04X}") and row[3].startswith(state) for row in rows):
            return True
    return False


def _ipv6_settled(names: list[str]) -> bool:
    """Whether no IPv6 address is tentative, and each of the interfaces `names` has a global one."""
    with open("/proc/thread-self/net/if_inet6", encoding="ascii") as table:
        rows = [line.split() for line in table]
    if any(int(row[4], 16) & _TENTATIVE for row in rows):
        return False
    return set(names) <= {row[5] for row in rows if int(row[3], 16) == _SCOPE_GLOBAL}


def _stp_settled() -> bool:
    """Whether every port of the node's bridges forwards or blocks."""
    import subprocess

    done = subprocess.run(["bridge", "link", "show"], capture_output=True, text=True, check=True, env={"PATH": PATH})
    return not re.search(r"state (disabled|listening|learning)", done.stdout)
