"""Say something, with one urgent octet in the middle, and print what comes back.

    python3 urgent.py HOST PORT

Sockets call urgent data "out of band" (send(2), MSG_OOB); TCP marks it with the flag URG (RFC 9293, section 3.8.5).
Standard library only.
"""

from __future__ import annotations

import socket
import sys

TIMEOUT_S = 5.0


def main(host: str, port: int) -> int:
    """Connect, speak, say goodbye, and listen until the other side has said goodbye too."""
    with socket.create_connection((host, port), timeout=TIMEOUT_S) as connection:
        connection.sendall(b"before ")
        connection.send(b"!", socket.MSG_OOB)
        connection.sendall(b"after\n")
        connection.shutdown(socket.SHUT_WR)
        while octets := connection.recv(4096):
            sys.stdout.write(octets.decode("ascii", "replace"))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1], int(sys.argv[2])))
    except OSError as error:
        sys.exit(f"no conversation: {error}")
