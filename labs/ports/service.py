"""A service with a name: answers each line with its name, the line, and whose it was, and writes the same into a file.

    python3 service.py NAME tcp|udp PORT

Standard library only.
"""

from __future__ import annotations

import socketserver
import sys
from pathlib import Path

LOGS = Path("/run")


def answer(octets: bytes, client: tuple[str, int]) -> str:
    """What this service says when `client` says `octets`."""
    return f"{sys.argv[1]} heard {octets.decode('utf-8', 'replace').strip()} from {client[0]}:{client[1]}\n"


def note(line: str) -> None:
    """Write down what was answered."""
    with (LOGS / f"{sys.argv[1]}.log").open("a", encoding="utf-8") as log:
        log.write(line)


class Stream(socketserver.StreamRequestHandler):
    """A client that has connected by TCP."""

    def handle(self) -> None:
        """Answer each line until the client has no more."""
        for octets in self.rfile:
            line = answer(octets, self.client_address)
            self.wfile.write(line.encode())
            note(line)


class Datagram(socketserver.BaseRequestHandler):
    """A datagram that has come by UDP."""

    def handle(self) -> None:
        """Answer it."""
        octets, own_socket = self.request
        line = answer(octets, self.client_address)
        own_socket.sendto(line.encode(), self.client_address)
        note(line)


class StreamServer(socketserver.ThreadingTCPServer):
    """Serves any number of clients at the same time."""

    allow_reuse_address = True
    daemon_threads = True


def main(name: str, protocol: str, port: int) -> None:
    """Serve for ever, under the own name, which `ss -p` shows."""
    Path("/proc/self/comm").write_text(name, encoding="ascii")
    server = StreamServer(("", port), Stream) if protocol == "tcp" else socketserver.UDPServer(("", port), Datagram)
    with server:
        server.serve_forever()


if __name__ == "__main__":
    try:
        main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
    except OSError as error:
        sys.exit(f"no service: {error}")
