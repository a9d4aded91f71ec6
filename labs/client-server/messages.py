"""Messages over TCP, for both programs. TCP carries octets; where a message begins and ends, the programs must say.

A message is a number of four octets, the most significant first, and then so many octets of UTF-8 text.

A receiver that takes what one `recv` returns for one message works often, and is wrong: a message may come in several
pieces, and one piece may hold several messages. With READER=naive in its environment, a program is such a receiver.
"""

from __future__ import annotations

import os
import socket

HEAD = 4
"""Octets of the number before each message."""
LONGEST = 1_000_000
"""Octets of the longest message that is believed."""
NAIVE = os.environ.get("READER") == "naive"


def packed(text: str) -> bytes:
    """A message as it goes over the connection."""
    data = text.encode()
    return len(data).to_bytes(HEAD, "big") + data


def receive(connection: socket.socket) -> str | None:
    """The next message, or None when the other side has closed.

    Raises:
        ValueError: the other side does not keep to the format, or has closed within a message.
    """
    if NAIVE:
        piece = connection.recv(1024)
        return piece[HEAD:].decode(errors="replace") if piece else None
    head = _octets(connection, HEAD)
    if not head:
        return None
    length = int.from_bytes(head, "big")
    if len(head) < HEAD or length > LONGEST:
        raise ValueError("this is no message")
    data = _octets(connection, length)
    if len(data) < length:
        raise ValueError("the message is cut off")
    return data.decode()


def _octets(connection: socket.socket, count: int) -> bytes:
    """The next `count` octets, in however many pieces they come; fewer when the other side closes before."""
    data = b""
    while len(data) < count and (piece := connection.recv(count - len(data))):
        data += piece
    return data
