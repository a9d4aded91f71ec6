"""Say a line to a service, print its answer, and hang up; as often as is wanted, with a new socket each time.

    python3 ask.py tcp|udp HOST PORT LINE [TIMES]

The system chooses the client's port, since nobody asks for one. Standard library only.
"""

from __future__ import annotations

import socket
import sys

TIMEOUT_S = 3.0
KINDS = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}


def ask(kind: socket.SocketKind, host: str, port: int, line: str) -> str:
    """What the service answers to `line`."""
    with socket.socket(socket.AF_INET, kind) as connection:
        connection.settimeout(TIMEOUT_S)
        connection.connect((host, port))
        connection.sendall(f"{line}\n".encode())
        return connection.makefile(encoding="utf-8").readline()


if __name__ == "__main__":
    try:
        for _ in range(int(sys.argv[5]) if len(sys.argv) > 5 else 1):
            sys.stdout.write(ask(KINDS[sys.argv[1]], sys.argv[2], int(sys.argv[3]), sys.argv[4]))
    except OSError as error:
        sys.exit(f"no answer: {error}")
