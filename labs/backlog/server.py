"""A server that serves one client after the other: who comes meanwhile waits in the queue of its listening socket.

    python3 server.py PORT BACKLOG

It tells each client its number and stays with it until it hangs up. Standard library only.
"""

from __future__ import annotations

import contextlib
import socket
import sys


def main(port: int, backlog: int) -> None:
    """Serve for ever."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("", port))
        listener.listen(backlog)
        number = 0
        while True:
            client, _ = listener.accept()
            number += 1
            with client, contextlib.suppress(OSError):
                client.sendall(f"you are number {number}\n".encode())
                while client.recv(4096):
                    pass


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
