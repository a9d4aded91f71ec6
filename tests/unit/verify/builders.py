"""A small home network and the frames on its wires, written down by hand: no packet library, no kernel."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, ip_interface
from typing import Any, ClassVar

from emulator.capture.frame import Direction, Frame, Value
from emulator.capture.frame import Interface as CaptureInterface
from emulator.lab.checks import CHECK_KINDS
from emulator.lab.resolved import Interface, Link, Node, ResolvedLab, Segment
from emulator.lab.services import Services
from emulator.verify.evidence import Evidence, Output, Window
from emulator.verify.judge import judge
from emulator.verify.verdict import Result

START_NS = 1_700_000_000_000_000_000
BROADCAST = "ff:ff:ff:ff:ff:ff"
NUMBER = {"icmp": 1, "tcp": 6, "udp": 17, "icmpv6": 58}

_CABLES = (
    ("pc1:eth0", "sw:pc1"), ("pc2:eth0", "sw:pc2"), ("server:eth0", "sw:server"), ("home:lan", "sw:home"),
    ("home:wan", "isp:home"), ("isp:web", "web:eth0"), ("isp:out", "outside:eth0"), ("isp:core", "core:isp"),
    ("resolver:eth0", "core:resolver"), ("root:eth0", "core:root"), ("tld:eth0", "core:tld"),
    ("auth:eth0", "core:auth"),
)  # fmt: skip
_ADDRESSES = {
    "home:lan": "192.168.1.1/24", "home:wan": "203.0.113.2/24", "isp:home": "203.0.113.1/24",
    "isp:web": "192.0.2.1/24", "web:eth0": "192.0.2.80/24", "isp:out": "198.18.0.1/24",
    "outside:eth0": "198.18.0.99/24",
    "isp:core": "198.51.100.1/24", "resolver:eth0": "198.51.100.53/24", "root:eth0": "198.51.100.2/24",
    "tld:eth0": "198.51.100.3/24", "auth:eth0": "198.51.100.4/24",
}  # fmt: skip
LEASED = {"pc1:eth0": "192.168.1.100", "pc2:eth0": "192.168.1.101", "server:eth0": "192.168.1.10"}
ADDRESS = {place: text.partition("/")[0] for place, text in _ADDRESSES.items()} | LEASED
_SEGMENTS = {"sw": "lan", "core": "core", "home:wan": "wan", "isp:home": "wan", "isp:web": "web", "web:eth0": "web"}
_SERVICES: dict[str, dict[str, Any]] = {
    "home": {
        "dnsmasq": {
            "dhcp": [
                {
                    "interface": "lan",
                    "range": "192.168.1.100-192.168.1.199",
                    "lease-time": "1h",
                    "domain": "home.arpa",
                    "reservations": {"server": "192.168.1.10"},
                }
            ]
        }
    },
    "web": {"http": {"pages": {"/": "hello, {run.name}\n"}}},
}


def home_network() -> ResolvedLab:
    """pc1, pc2 and server on switch sw, behind home; isp; web, outside; resolver, root, tld and auth on switch core."""
    places = sorted({place for cable in _CABLES for place in cable})
    peers = dict(_CABLES) | {b: a for a, b in _CABLES}
    interfaces = {}
    for number, place in enumerate(places, start=1):
        node, _, name = place.partition(":")
        peer_node, _, peer_name = peers[place].partition(":")
        switch = next((n for n in (node, peer_node) if n in ("sw", "core")), None)
        segment = _SEGMENTS.get(switch or place, "out")
        addresses = (ip_interface(_ADDRESSES[place]),) if place in _ADDRESSES else ()
        interfaces[place] = Interface(
            node, name, f"02:00:00:00:00:{number:02x}", 1500, False, (peer_node, peer_name), segment, addresses,
            dhcp=place in LEASED,
        )  # fmt: skip
    nodes = {}
    for name in sorted({interface.node for interface in interfaces.values()}):
        own = tuple(interface for interface in interfaces.values() if interface.node == name)
        kind = "switch" if name in ("sw", "core") else "router" if name in ("home", "isp") else "host"
        services = Services.model_validate(_SERVICES.get(name, {}))
        nodes[name] = Node(name, kind, "", own, (), (), {}, {}, (), None, None, services)
    segments = {}
    for name in sorted({interface.segment for interface in interfaces.values()}):
        members = [i for i in interfaces.values() if i.segment == name and nodes[i.node].kind != "switch"]
        networks = tuple({IPv4Network(a.network) for i in members for a in i.addresses if isinstance(a, IPv4Interface)})
        segments[name] = Segment(name, tuple((i.node, i.name) for i in members), networks)
    links = tuple(Link(interfaces[a], interfaces[b]) for a, b in _CABLES)
    return ResolvedLab("home", "", nodes, links, segments, {}, (), (), ())


@dataclass(frozen=True)
class Packet:
    """An IPv4 packet in an Ethernet frame; `fields` and `layers` are those above TCP, UDP and ICMP."""

    protocol: str
    src: str
    dst: str
    sport: int = 0
    dport: int = 0
    ttl: int = 64
    id: int = 1
    seq: int = 0
    ack: int = 0
    flags: str = ""
    payload: bytes = b""
    icmp_type: int = 8
    icmp_seq: int = 1
    ident: int = 7
    eth_src: str = "02:00:00:00:00:00"
    eth_dst: str = "02:00:00:00:00:00"
    fields: Mapping[str, tuple[Value, ...]] = field(default_factory=dict)
    layers: tuple[str, ...] = ()
    network: ClassVar[str] = "ip"

    def _flag_bits(self) -> int:
        return sum(bit for letter, bit in {"F": 1, "S": 2, "R": 4, "P": 8, "A": 16}.items() if letter in self.flags)

    def _upper(self) -> bytes:
        """The transport header and what it carries; checksums are left 0."""
        if self.protocol == "tcp":
            bits = self._flag_bits()
            upper = struct.pack("!HHIIBBHHH", self.sport, self.dport, self.seq, self.ack, 0x50, bits, 512, 0, 0)
        elif self.protocol == "udp":
            upper = struct.pack("!HHHH", self.sport, self.dport, 8 + len(self.payload), 0)
        else:
            upper = struct.pack("!BBHHH", self.icmp_type, 0, 0, self.ident, self.icmp_seq)
        return upper + self.payload

    def octets(self) -> bytes:
        """The frame; checksums are left 0."""
        upper = self._upper()
        total = 20 + len(upper)
        header = struct.pack("!BBHHHBBH", 0x45, 0, total, self.id, 0, self.ttl, NUMBER[self.protocol], 0)
        macs = bytes.fromhex((self.eth_dst + self.eth_src).replace(":", ""))
        ends = IPv4Address(self.src).packed + IPv4Address(self.dst).packed
        return macs + b"\x08\x00" + header + ends + upper

    def decoded(self) -> dict[str, tuple[Value, ...]]:
        """What a decoder would make of the octets."""
        found: dict[str, tuple[Value, ...]] = {
            "eth.src": (self.eth_src,), "eth.dst": (self.eth_dst,), "eth.addr": (self.eth_dst, self.eth_src),
            "eth.type": (0x0800,),
            "ip.src": (self.src,), "ip.dst": (self.dst,), "ip.addr": (self.src, self.dst), "ip.ttl": (self.ttl,),
            "ip.id": (self.id,), "ip.proto": (NUMBER[self.protocol],), "ip.checksum.status": (1,),
            f"{self.protocol}.checksum.status": (1,),
        }  # fmt: skip
        if self.protocol == "icmp":
            found |= {"icmp.type": (self.icmp_type,), "icmp.code": (0,), "icmp.ident": (self.ident,)}
            found |= {"icmp.seq": (self.icmp_seq,)}
        elif self.protocol in ("tcp", "udp"):
            name = self.protocol
            found |= {f"{name}.srcport": (self.sport,), f"{name}.dstport": (self.dport,)}
            found |= {f"{name}.port": (self.sport, self.dport), f"{name}.payload": (self.payload,)}
        if self.protocol == "tcp":
            found |= {"tcp.seq_raw": (self.seq,), "tcp.ack_raw": (self.ack,), "tcp.flags": (self._flag_bits(),)}
            found |= {"tcp.len": (len(self.payload),)}
            letters = {"syn": "S", "fin": "F", "reset": "R", "ack": "A", "push": "P"}
            found |= {f"tcp.flags.{name}": (letter in self.flags,) for name, letter in letters.items()}
        if self.protocol == "udp":
            found |= {"udp.length": (8 + len(self.payload),)}
        return found | dict(self.fields)


@dataclass(frozen=True)
class Packet6(Packet):
    """The same in IPv6: protocol "tcp", "udp" or "icmpv6"; `ttl` is the hop limit, `ident` that of an echo."""

    icmp_type: int = 128
    network: ClassVar[str] = "ipv6"

    def octets(self) -> bytes:
        """The frame; checksums are left 0."""
        upper = self._upper()
        header = struct.pack("!IHBB", 6 << 28, len(upper), NUMBER[self.protocol], self.ttl)
        macs = bytes.fromhex((self.eth_dst + self.eth_src).replace(":", ""))
        return macs + b"\x86\xdd" + header + IPv6Address(self.src).packed + IPv6Address(self.dst).packed + upper

    def decoded(self) -> dict[str, tuple[Value, ...]]:
        """What a decoder would make of the octets."""
        found = {name: value for name, value in super().decoded().items() if not name.startswith("ip.")}
        found |= {
            "eth.type": (0x86DD,), "ipv6.src": (self.src,), "ipv6.dst": (self.dst,), "ipv6.addr": (self.src, self.dst),
            "ipv6.hlim": (self.ttl,), "ipv6.nxt": (NUMBER[self.protocol],), "ipv6.flow": (0,),
            "ipv6.plen": (len(self._upper()),),
        }  # fmt: skip
        if self.protocol == "icmpv6":
            found |= {"icmpv6.type": (self.icmp_type,), "icmpv6.code": (0,)}
            if self.icmp_type in (128, 129):
                found |= {"icmpv6.echo.identifier": (self.ident,), "icmpv6.echo.sequence_number": (self.icmp_seq,)}
        return found | dict(self.fields)


@dataclass
class Wire:
    """What is recorded while frames go over the wires."""

    lab: ResolvedLab = field(default_factory=home_network)
    frames: list[Frame] = field(default_factory=list)
    windows: dict[str, Window] = field(default_factory=dict)
    before: dict[str, dict[str, str]] = field(default_factory=dict)
    after: dict[str, dict[str, str]] = field(default_factory=dict)
    outputs: list[Output] = field(default_factory=list)
    variables: dict[str, str] = field(default_factory=dict)
    dropped: dict[str, int] = field(default_factory=dict)
    truncated: str | None = None
    now_ns: int = START_NS

    def __post_init__(self) -> None:
        for place, address in LEASED.items():
            self.configure(place, address)

    def configure(self, place: str, address: str | None, gateway: str | None = "192.168.1.1") -> None:
        """Say what the kernel has configured at `place`."""
        node, _, name = place.partition(":")
        infos = [{"family": "inet", "local": address, "prefixlen": 24}] if address else []
        routes = [{"dst": "default", "gateway": gateway, "dev": name}] if gateway else []
        self.after[node] = {
            "address": json.dumps([{"ifname": name, "addr_info": infos}]),
            "route": json.dumps(routes),
        }

    def mac(self, place: str) -> str:
        """The MAC of an interface."""
        return self.lab.interface(place).mac

    def scene(self, name: str) -> None:
        """A scene begins; the one before has ended."""
        self.now_ns += 1_000_000_000
        self.windows[name] = Window(self.now_ns, self.now_ns + 900_000_000)

    def see(
        self,
        place: str,
        direction: Direction | None,
        fields: Mapping[str, tuple[Value, ...]],
        layers: tuple[str, ...],
        data: bytes,
        **changes: Any,
    ) -> Frame:
        """A frame at one interface."""
        self.now_ns += 10_000
        frame = Frame(
            len(self.frames) + 1, self.now_ns, place, direction, data, len(data), dict(fields), layers, reencoded=True
        )
        self.frames.append(replace(frame, **changes))
        return self.frames[-1]

    def see_packet(self, place: str, direction: Direction | None, packet: Packet, **changes: Any) -> Frame:
        """A packet at one interface."""
        layers = ("eth", packet.network, packet.protocol, *packet.layers)
        return self.see(place, direction, packet.decoded(), layers, packet.octets(), **changes)

    def _ways(self, sender: str, receiver: str) -> list[tuple[str, Direction]]:
        a, b = self.lab.interface(sender), self.lab.interface(receiver)
        ways: list[tuple[str, Direction]] = [(sender, "out")]
        if a.peer != (b.node, b.name):
            ways += [(f"{a.peer[0]}:{a.peer[1]}", "in"), (f"{b.peer[0]}:{b.peer[1]}", "out")]
        return [*ways, (receiver, "in")]

    def carry(self, packet: Packet, sender: str, receiver: str) -> list[Frame]:
        """A packet goes from one node to the next, through a switch when one lies between."""
        packet = replace(packet, eth_src=self.mac(sender), eth_dst=self.mac(receiver))
        return [self.see_packet(place, way, packet) for place, way in self._ways(sender, receiver)]

    def route(self, packet: Packet, *places: str, after: Mapping[str, Mapping[str, Any]] | None = None) -> list[Frame]:
        """A packet goes through routers: `places` are sender and receiver of each hop.

        `after` says what a node changes (`{"home": {"src": "203.0.113.2"}}`) beside the TTL when it sends on.
        """
        frames = []
        for number in range(0, len(places), 2):
            if number:
                changes = (after or {}).get(places[number].partition(":")[0], {})
                packet = replace(packet, **{"ttl": packet.ttl - 1, **changes})
            frames += self.carry(packet, places[number], places[number + 1])
        return frames

    def arp(self, opcode: int, sender: str, target: str, *, ways: tuple[tuple[str, Direction], ...], to: str) -> None:
        """An ARP message about two interfaces, seen at `ways`."""
        fields: dict[str, tuple[Value, ...]] = {
            "eth.src": (self.mac(sender),), "eth.dst": (to,), "arp.opcode": (opcode,),
            "arp.src.hw_mac": (self.mac(sender),), "arp.src.proto_ipv4": (ADDRESS[sender],),
            "arp.dst.proto_ipv4": (ADDRESS[target],),
        }  # fmt: skip
        data = f"arp {opcode} {sender} {target} {to}".encode()
        for place, way in ways:
            self.see(place, way, fields, ("eth", "arp"), data)

    def dns(
        self,
        question: str,
        asker: str,
        server: str,
        *,
        number: int,
        rd: bool = False,
        src: str | None = None,
        qtype: int = 1,
        **reply: Any,
    ) -> None:
        """A question with the message id `number`, seen at asker and server; and its reply when there are keywords for
        it: answer, authority, additional, aa, ad, rcode, reply_id."""
        ask = Packet("udp", src or ADDRESS[asker], ADDRESS[server], 5000 + number, 53, id=number)
        base: dict[str, tuple[Value, ...]] = {"dns.id": (number,), "dns.qry.name": (question,)}
        base |= {"dns.flags.recdesired": (rd,), "dns.flags.response": (False,), "dns.qry.type": (qtype,)}
        question_packet = replace(ask, fields=base, layers=("dns",), payload=f"? {question} {number}".encode())
        self.see_packet(asker, "out", question_packet)
        self.see_packet(server, "in", question_packet)
        if reply:
            sections: dict[str, tuple[Value, ...]] = {
                f"wirelab.dns.{name}": tuple(reply.get(name, ())) for name in ("answer", "authority", "additional")
            }
            flags: dict[str, tuple[Value, ...]] = {
                "dns.flags.response": (True,), "dns.flags.authoritative": (reply.get("aa", False),),
                "dns.flags.authenticated": (reply.get("ad", False),), "dns.flags.rcode": (reply.get("rcode", 0),),
                "dns.id": (reply.get("reply_id", number),),
            }  # fmt: skip
            back = replace(
                ask, src=ask.dst, dst=ask.src, sport=53, dport=ask.sport, id=number + 1000, layers=("dns",),
                fields=base | flags | sections, payload=f"! {question} {number}".encode(),
            )  # fmt: skip
            self.see_packet(server, "out", back)
            self.see_packet(asker, "in", back)

    def printed(self, step: str, node: str, stdout: str, *, stderr: str = "", status: int | None = 0) -> None:
        """A step's command printed something and ended."""
        self.outputs.append(Output("", step, node, ("curl",), status, stdout, stderr, self.now_ns, self.now_ns))

    def evidence(self) -> Evidence:
        """Everything recorded so far."""
        places = dict.fromkeys([i.place for i in self.lab.interfaces()] + [f.interface for f in self.frames])
        return Evidence(
            frames=tuple(self.frames),
            interfaces=tuple(CaptureInterface(place, dropped=self.dropped.get(place, 0)) for place in places),
            windows=self.windows,
            outputs=tuple(self.outputs),
            before=self.before,
            after=self.after,
            variables=self.variables,
            truncated=self.truncated,
        )

    def verdict(self, kind: str, **parameters: Any) -> Result:
        """The verdict of one check of `kind`; parameter names as in a lab file, `_` for `-`, `from_` for `from`."""
        keys = {name.rstrip("_").replace("_", "-"): value for name, value in parameters.items()}
        check = CHECK_KINDS[kind].model_validate({"name": "it", "layer": "network", "check": kind, **keys})
        (result,) = judge(replace(self.lab, checks=(check,)), self.evidence())
        return result
