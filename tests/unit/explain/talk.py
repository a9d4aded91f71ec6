"""What hosts of the home network say to each other on a wire."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

PUBLIC, WEB, PC1 = "203.0.113.2", "192.0.2.80", "192.168.1.100"
OUT = ("pc1:eth0", "home:lan", "home:wan", "isp:home", "isp:web", "web:eth0")
BACK = ("web:eth0", "isp:web", "isp:home", "home:wan", "home:lan", "pc1:eth0")
SNAT = {"home": {"src": PUBLIC}}
UNDO = {"home": {"dst": PC1}}
TRACKED = (
    "[NEW] tcp 6 120 SYN_SENT src=192.168.1.100 dst=192.0.2.80 sport=40000 dport=80 [UNREPLIED] src=192.0.2.80 "
    "dst=203.0.113.2 sport=80 dport=40000"
)


class Connection:
    """pc1 and web by TCP, through home's translation; every packet has an identification of its own."""

    def __init__(self, wire: Any, build: Any) -> None:
        self.wire, self.build = wire, build
        self.number = 100
        self.seq = {True: 1000, False: 9000}

    def packet(self, flags: str, payload: bytes = b"", *, client: bool, **changes: Any) -> Any:
        self.number += 1
        ends = (PC1, WEB, 40000, 80) if client else (WEB, PUBLIC, 80, 40000)
        made = self.build.Packet(
            "tcp", ends[0], ends[1], ends[2], ends[3], flags=flags, payload=payload, id=self.number,
            seq=self.seq[client], ack=self.seq[not client] if "A" in flags else 0,
        )  # fmt: skip
        return replace(made, **changes)

    def send(self, flags: str, payload: bytes = b"", *, client: bool, hops: int = 6, **changes: Any) -> Any:
        """Send a segment over the first `hops` / 2 links of its way."""
        packet = self.packet(flags, payload, client=client, **changes)
        way, after = (OUT, SNAT) if client else (BACK, UNDO)
        frames = self.wire.route(packet, *way[:hops], after=after)
        self.seq[client] = packet.seq + len(payload) + sum(flags.count(letter) for letter in "SF")
        return frames

    def open(self) -> None:
        self.send("S", client=True)
        self.send("SA", client=False)
        self.send("A", client=True)

    def get(self, uri: str = "/", status: int = 200, phrase: str = "OK", **headers: Any) -> None:
        asked = {
            "http.request": (True,), "http.request.method": ("GET",), "http.request.uri": (uri,),
            "http.host": (headers.pop("host", "www.example.com"),),
        }  # fmt: skip
        answered = {
            "http.response": (True,), "http.response.code": (status,), "http.response.phrase": (phrase,), **headers,
        }  # fmt: skip
        self.send("PA", b"GET / HTTP/1.1\r\n\r\n", client=True, fields=asked, layers=("http",))
        self.send("PA", b"HTTP/1.1 200 OK\r\n\r\n", client=False, fields=answered, layers=("http",))

    def close(self) -> None:
        self.send("FA", client=True)
        self.send("FA", client=False)
        self.send("A", client=True)


def rest(wire: Any) -> None:
    """A second passes, and then something else happens, so that what is missing is not just late."""
    wire.now_ns += 1_000_000_000
    wire.arp(1, "pc2:eth0", "home:lan", ways=(("pc2:eth0", "out"),), to="ff:ff:ff:ff:ff:ff")


def kinds(story: Any) -> list[str]:
    """The kinds of all remarks."""
    return [remark.kind for _, remark in story.unusual]


def only(story: Any, kind: str) -> Any:
    """The one exchange of a kind."""
    (found,) = [telling for telling in story.tellings if telling.kind == kind]
    return found
