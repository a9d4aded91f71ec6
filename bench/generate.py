"""Sends Ethernet frames from an interface at a rate: python3 generate.py INTERFACE MAC RATE SECONDS OCTETS.

`sendmmsg(2)` on a packet socket, a batch at a time, each when it is due; prints how many frames were sent and in how
many seconds. Runs in a node, so it is the standard library alone.
"""

from __future__ import annotations

import ctypes
import socket
import sys
import time

BATCH = 32


class Vector(ctypes.Structure):
    """struct iovec."""

    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class Message(ctypes.Structure):
    """struct msghdr."""

    _fields_ = (
        ("name", ctypes.c_void_p), ("namelen", ctypes.c_uint), ("vectors", ctypes.POINTER(Vector)),
        ("count", ctypes.c_size_t), ("control", ctypes.c_void_p), ("controllen", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )  # fmt: skip


class Messages(ctypes.Structure):
    """struct mmsghdr."""

    _fields_ = (("header", Message), ("sent", ctypes.c_uint))


def main() -> None:
    """Send, and print `{"sent", "seconds"}`."""
    interface, mac, rate, seconds, octets = sys.argv[1], *sys.argv[2:3], *(float(word) for word in sys.argv[3:])
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
    sock.setsockopt(263, 20, 1)  # SOL_PACKET, PACKET_QDISC_BYPASS (packet(7))
    sock.bind((interface, 0))
    frame = bytes.fromhex(mac.replace(":", "")) + sock.getsockname()[4] + b"\x88\xb5"
    frame += bytes(int(octets) - len(frame))
    held = ctypes.create_string_buffer(frame, len(frame))
    vector = Vector(ctypes.addressof(held), len(frame))
    messages = (Messages * BATCH)(*(Messages(Message(vectors=ctypes.pointer(vector), count=1)) for _ in range(BATCH)))
    send = ctypes.CDLL(None, use_errno=True).sendmmsg
    fd, clock = sock.fileno(), time.perf_counter
    started, sent = clock(), 0
    while (now := clock() - started) < seconds:
        if sent < now * rate:
            sent += max(0, send(fd, messages, BATCH, 0))
        else:
            time.sleep(min(0.0002, BATCH / rate))
    print(f'{{"sent": {sent}, "seconds": {clock() - started:.3f}}}')


if __name__ == "__main__":
    main()
