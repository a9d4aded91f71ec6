"""Waiting until a service answers, by asking it. The calling thread is in the node's network namespace."""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
import time
from collections.abc import Callable
from pathlib import Path

from emulator.plan.ops import Condition

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
            return None
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
        return os.path.exists(private / condition.path.lstrip("/"))
    if condition.kind == "udp-port":
        return _udp_port_bound(condition.port)
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


def _udp_port_bound(port: int) -> bool:
    with open("/proc/thread-self/net/udp", encoding="ascii") as table:
        return any(line.split()[1].endswith(f":{port:04X}") for line in list(table)[1:])
