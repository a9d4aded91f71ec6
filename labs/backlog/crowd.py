"""Many clients call one server at the same time, each from its own address.

    python3 crowd.py HOST PORT FIRST LAST [PATIENCE]

FIRST and LAST are IPv4 addresses of this computer; all from one to the other are clients. Who gets no connection within
PATIENCE seconds (default: 60) gives up; the system counts them (tcp(7), TCP_USER_TIMEOUT). Who has got one, and is not
served within as many seconds, gives up too. Who is served hangs up at once. Standard library only.
"""

from __future__ import annotations

import os
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address

PATIENCE_S = 60.0


def call(address: IPv4Address, server: tuple[str, int], patience_s: float) -> str:
    """What becomes of the client with this address."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as own:
        own.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(patience_s * 1000))
        own.bind((str(address), 0))
        try:
            own.connect(server)
        except OSError as error:
            return f"turned away: {os.strerror(error.errno or 0)}"
        own.settimeout(patience_s)
        try:
            return f"served: {own.recv(4096).decode().strip()}"
        except OSError:
            return "connected, and not served"


def main(server: tuple[str, int], first: IPv4Address, last: IPv4Address, patience_s: float) -> None:
    """All clients at once; tells what became of each when that is known."""

    def client(address: IPv4Address) -> None:
        sys.stdout.write(f"{address} {call(address, server, patience_s)}\n")

    addresses = [first + number for number in range(int(last) - int(first) + 1)]
    with ThreadPoolExecutor(len(addresses)) as crowd:
        list(crowd.map(client, addresses))


if __name__ == "__main__":
    patience = float(sys.argv[5]) if len(sys.argv) > 5 else PATIENCE_S
    main((sys.argv[1], int(sys.argv[2])), IPv4Address(sys.argv[3]), IPv4Address(sys.argv[4]), patience)
