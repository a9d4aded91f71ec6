"""A server with one set of data and two ways to it: messages of its own for its own client, and HTTP for browsers.

    python3 server.py FILE

Each line of FILE is a video: a name, a space, a text. TCP port 7777 answers the message `play NAME` with the text; TCP
port 80 answers `GET /NAME`. There is one more video, `film`, which is long.
"""

from __future__ import annotations

import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import BaseRequestHandler, ThreadingTCPServer

from messages import packed, receive

OWN_PORT, HTTP_PORT = 7777, 80
FILM = 20_000
"""Octets of the film."""

videos = {"film": "film " * (FILM // 5)}


class OwnClient(BaseRequestHandler):
    """Messages, each answered by one message."""

    def handle(self) -> None:
        """Answer until the client closes, or says what is no message."""
        try:
            while (request := receive(self.request)) is not None:
                word, _, name = request.partition(" ")
                known = word == "play" and name in videos
                self.request.sendall(packed(videos[name] if known else f"cannot {request!r}"))
        except (OSError, ValueError) as error:
            print(f"{self.client_address[0]}: {error}", file=sys.stderr, flush=True)


class Browser(BaseHTTPRequestHandler):
    """HTTP/1.1 (RFC 9112)."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer with the text of a video, or with 404."""
        text = videos.get(self.path.removeprefix("/"))
        body = f"there is no {self.path}\n" if text is None else f"{text}\n"
        self.send_response(404 if text is None else 200)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body.encode())))
        self.end_headers()
        self.wfile.write(body.encode())


class OwnServer(ThreadingTCPServer):
    """A thread for each client."""

    allow_reuse_address = True
    daemon_threads = True


def main(file: str) -> None:
    """Serve both, until the end."""
    for line in Path(file).read_text(encoding="utf-8").splitlines():
        name, _, text = line.partition(" ")
        videos[name] = text
    own = OwnServer(("", OWN_PORT), OwnClient)
    threading.Thread(target=own.serve_forever, daemon=True).start()
    ThreadingHTTPServer(("", HTTP_PORT), Browser).serve_forever()


if __name__ == "__main__":
    main(sys.argv[1])
