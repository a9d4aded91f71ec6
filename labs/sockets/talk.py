"""Two programs that talk through a socket. What they say is the same whatever the family of the socket is.

    python3 talk.py listen ADDRESS…      wait at these addresses and answer each line, until the end
    python3 talk.py say ADDRESS TEXT     say a line and show the answer
    python3 talk.py stay ADDRESS TEXT    the same, and keep the connection open until the end

An ADDRESS is `unix:PATH` (AF_UNIX: a name in the file system of this computer) or `inet:HOST:PORT` (AF_INET: TCP over
IPv4). Only `opened` and `listening` know the difference.
"""

from __future__ import annotations

import signal
import socket
import sys
import threading
from pathlib import Path

PATIENCE_S = 2.0


def address_of(text: str) -> tuple[socket.AddressFamily, str | tuple[str, int]]:
    """The family and the address that `text` means; ValueError when it means none."""
    family, _, rest = text.partition(":")
    host, _, port = rest.rpartition(":")
    if family == "unix" and rest:
        return socket.AF_UNIX, rest
    if family == "inet" and port.isdigit():
        return socket.AF_INET, (host, int(port))
    raise ValueError(f"{text!r} is neither unix:PATH nor inet:HOST:PORT")


def opened(text: str) -> socket.socket:
    """A connection to an address."""
    family, address = address_of(text)
    connection = socket.socket(family, socket.SOCK_STREAM)
    connection.settimeout(PATIENCE_S)
    connection.connect(address)
    return connection


def listening(text: str) -> socket.socket:
    """A socket that waits at an address."""
    family, address = address_of(text)
    if isinstance(address, str):
        Path(address).unlink(missing_ok=True)
    waiting = socket.socket(family, socket.SOCK_STREAM)
    waiting.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    waiting.bind(address)
    waiting.listen()
    return waiting


def answer(connection: socket.socket) -> None:
    """Answer each line: who heard what, and by which family."""
    with connection, connection.makefile("rw", encoding="utf-8") as stream:
        for line in stream:
            stream.write(f"{socket.gethostname()} heard by {connection.family.name}: {line}")
            stream.flush()


def serve(waiting: socket.socket) -> None:
    """Answer everybody who comes, each in a thread."""
    while True:
        connection, _ = waiting.accept()
        threading.Thread(target=answer, args=[connection], daemon=True).start()


def listen(*texts: str) -> None:
    """Wait at all these addresses."""
    sockets = [listening(text) for text in texts]
    for waiting in sockets:
        threading.Thread(target=serve, args=[waiting], daemon=True).start()
    signal.pause()


def say(text: str, line: str, *, stay: bool) -> None:
    """Say one line and show what comes back; with `stay`, remain connected."""
    with opened(text) as connection, connection.makefile("rw", encoding="utf-8") as stream:
        stream.write(f"{line}\n")
        stream.flush()
        print(stream.readline(), end="", flush=True)
        if stay:
            signal.pause()


if __name__ == "__main__":
    word, *words = sys.argv[1:]
    try:
        listen(*words) if word == "listen" else say(*words, stay=word == "stay")
    except (OSError, ValueError) as error:
        sys.exit(f"cannot {word}: {error}")
