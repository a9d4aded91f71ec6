"""The client program of the server: what a user installs.

    python3 client.py [--octets] SERVER NAME…

Asks for all videos of these names over one connection, and shows what it gets. All questions leave in one piece; with
--octets each octet leaves alone, with a pause after it.
"""

from __future__ import annotations

import socket
import sys
import time

from messages import packed, receive

PORT = 7777
PAUSE_S = 0.04
PATIENCE_S = 2.0
SHOWN = 60
"""Of a longer text only the number of octets is shown."""


def main(server: str, names: list[str], *, octets: bool) -> int:
    """Ask and show; 1 when an answer is missing."""
    with socket.create_connection((server, PORT), PATIENCE_S) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        questions = b"".join(packed(f"play {name}") for name in names)
        size = 1 if octets else len(questions)
        for start in range(0, len(questions), size):
            connection.sendall(questions[start : start + size])
            time.sleep(PAUSE_S if octets else 0)
        print(f"sent {len(names)} messages, {len(questions)} octets, {size} at a time")
        for name in names:
            answer = receive(connection)
            if answer is None:
                print(f"{name}: no answer")
                return 1
            print(f"{name}: {answer if len(answer) <= SHOWN else f'{len(answer.encode())} octets'}")
    return 0


if __name__ == "__main__":
    words = sys.argv[1:]
    one_at_a_time = words[:1] == ["--octets"]
    if one_at_a_time:
        words.pop(0)
    try:
        sys.exit(main(words[0], words[1:], octets=one_at_a_time))
    except (OSError, ValueError) as error:
        sys.exit(f"cannot talk to the server: {error}")
