"""Put frames on a cable exactly as they are written, and tell which of them are answered.

    python3 send.py INTERFACE FILE…

A file holds one frame as hexadecimal digits; what follows a `#` is a remark. Each frame carries an ICMP echo request
(RFC 792), or what would be one. When the last frame is answered, those before it have been answered or never will be.
Standard library only; Linux packet sockets (packet(7)), which need CAP_NET_RAW.
"""

from __future__ import annotations

import socket
import sys
from pathlib import Path

ANSWER_TIMEOUT_S = 2.0
ETHERNET_PROTOCOL_ALL = 0x0003
IPV4, ICMP, ECHO_REPLY = 0x0800, 1, 0


def octets_of(text: str) -> bytes:
    """The frame that is written in `text`; ValueError when something else is."""
    return bytes.fromhex("".join(line.partition("#")[0] for line in text.splitlines()))


def number_of(frame: bytes) -> int:
    """The sequence number of the echo request in a frame that is written by hand: an IPv4 header has 20 octets."""
    return int.from_bytes(frame[40:42], "big")


def is_reply(frame: bytes, to: bytes) -> bool:
    """Whether `frame` is an ICMP echo reply for the MAC `to`."""
    kind = int.from_bytes(frame[12:14], "big")
    return frame[:6] == to and kind == IPV4 and frame[23:24] == bytes([ICMP]) and frame[34:35] == bytes([ECHO_REPLY])


def main(interface: str, files: list[str]) -> int:
    """Send the frames; 0 when the last one was answered."""
    frames = [octets_of(Path(file).read_text(encoding="ascii")) for file in files]
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETHERNET_PROTOCOL_ALL)) as wire:
        wire.bind((interface, 0))
        wire.settimeout(ANSWER_TIMEOUT_S)
        for file, frame in zip(files, frames, strict=True):
            wire.send(frame)
            print(f"sent {file}: {len(frame)} octets, number {number_of(frame)}")
        own, last = frames[-1][6:12], number_of(frames[-1])
        while True:
            reply, sender = wire.recvfrom(65535)
            if sender[2] != socket.PACKET_OUTGOING and is_reply(reply, own):
                print(f"number {number_of(reply)} was answered")
                if number_of(reply) == last:
                    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1], sys.argv[2:]))
    except TimeoutError:
        sys.exit(f"no answer in {ANSWER_TIMEOUT_S:g} s")
    except (OSError, ValueError) as error:
        sys.exit(f"cannot send: {error}")
