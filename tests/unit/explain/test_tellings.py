"""What is told of each kind of exchange, and what is called unusual: each with a twin that is not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from emulator.explain.story import Recording, Story, tell
from emulator.explain.surroundings import of_capture, of_lab
from emulator.verify.evidence import Evidence
from tests.unit.explain.talk import OUT, PC1, SNAT, TRACKED, WEB, Connection, kinds, only, rest

Tell = Callable[..., Story]
HOME_LAN = (("pc1:eth0", "out"), ("sw:pc1", "in"), ("sw:home", "out"), ("home:lan", "in"))
PC1_BACK = (("home:lan", "out"), ("sw:home", "in"), ("sw:pc1", "out"), ("pc1:eth0", "in"))


def answer_arp(wire: Any, build: Any) -> None:
    wire.arp(1, "pc1:eth0", "home:lan", ways=HOME_LAN, to=build.BROADCAST)
    reply = {
        "eth.src": (wire.mac("home:lan"),), "eth.dst": (wire.mac("pc1:eth0"),), "arp.opcode": (2,),
        "arp.src.hw_mac": (wire.mac("home:lan"),), "arp.src.proto_ipv4": ("192.168.1.1",),
        "arp.dst.hw_mac": (wire.mac("pc1:eth0"),), "arp.dst.proto_ipv4": (PC1,),
    }  # fmt: skip
    for place, way in PC1_BACK:
        wire.see(place, way, reply, ("eth", "arp"), b"\2arp reply")


def test_arp(wire: Any, build: Any, told: Tell) -> None:
    answer_arp(wire, build)
    arp = only(told(wire), "arp")
    assert arp.title.startswith("pc1 asks everyone on its link who has 192.168.1.1 (home); home answers: 02:00:")
    assert arp.round_trip_ns == 70_000
    assert [way.interfaces for way in arp.ways] == [tuple(p for p, _ in HOME_LAN), tuple(p for p, _ in PC1_BACK)]
    assert not arp.remarks


def test_arp_says_which_packet_waited_for_it(wire: Any, build: Any, told: Tell) -> None:
    answer_arp(wire, build)
    wire.carry(build.Packet("udp", PC1, "192.168.1.1", 4000, 9), "pc1:eth0", "home:lan")
    assert "frame 9 was waiting for that: it leaves pc1:eth0 now" in only(told(wire), "arp").points[-1].text


def test_arp_without_an_answer(wire: Any, build: Any, told: Tell) -> None:
    for _ in range(2):
        wire.arp(1, "pc1:eth0", "home:lan", ways=HOME_LAN, to=build.BROADCAST)
        wire.now_ns += 1_000_000_000
    assert kinds(told(wire)) == ["no-answer", "retransmission"]


def test_two_answers_are_a_duplicate_address(wire: Any, build: Any, told: Tell) -> None:
    answer_arp(wire, build)
    other = {
        "arp.opcode": (2,), "arp.src.hw_mac": (wire.mac("pc2:eth0"),), "arp.src.proto_ipv4": ("192.168.1.1",),
        "arp.dst.hw_mac": (wire.mac("pc1:eth0"),), "arp.dst.proto_ipv4": (PC1,),
    }  # fmt: skip
    wire.see("pc2:eth0", "out", other, ("eth", "arp"), b"\2another")
    story = told(wire)
    assert kinds(story) == ["duplicate-address"]
    assert "(home) and" in story.unusual[0][1].text and "(pc2)" in story.unusual[0][1].text


@pytest.mark.parametrize("address, wrong", [("192.168.1.1", True), (PC1, False)])
def test_an_announcement(wire: Any, told: Tell, address: str, wrong: bool) -> None:
    fields = {
        "arp.opcode": (1,), "arp.src.hw_mac": (wire.mac("pc1:eth0"),), "arp.src.proto_ipv4": (address,),
        "arp.dst.proto_ipv4": (address,), "arp.isgratuitous": (True,), "eth.dst": ("ff:ff:ff:ff:ff:ff",),
    }  # fmt: skip
    wire.see("pc1:eth0", "out", fields, ("eth", "arp"), b"\xffannounce")
    story = told(wire)
    assert f"pc1 announces that {address} is at" in only(story, "arp").title
    assert kinds(story) == (["duplicate-address"] if wrong else [])


def test_a_probe_that_is_answered(wire: Any, told: Tell) -> None:
    mac = wire.mac("pc1:eth0")
    probe = {
        "arp.opcode": (1,), "arp.src.hw_mac": (mac,), "arp.src.proto_ipv4": ("0.0.0.0",),
        "arp.dst.proto_ipv4": ("192.168.1.1",), "arp.isprobe": (True,),
    }  # fmt: skip
    wire.see("pc1:eth0", "out", probe, ("eth", "arp"), b"\xffprobe")
    assert "so it is free" in only(told(wire), "arp").title
    reply = {
        "arp.opcode": (2,), "arp.src.hw_mac": (wire.mac("home:lan"),), "arp.src.proto_ipv4": ("192.168.1.1",),
        "arp.dst.hw_mac": (mac,), "arp.dst.proto_ipv4": ("0.0.0.0",),
    }  # fmt: skip
    wire.see("home:lan", "out", reply, ("eth", "arp"), b"\2mine")
    assert kinds(told(wire)) == ["duplicate-address"]


def ask(wire: Any, **reply: Any) -> None:
    wire.dns("www.example.com", "pc1:eth0", "home:lan", number=7, rd=True, **reply)


def test_dns(wire: Any, told: Tell) -> None:
    ask(wire, answer=("www.example.com A 300 192.0.2.80",))
    dns = only(told(wire), "dns")
    assert dns.title == 'pc1 asks home for the IPv4 address of "www.example.com": 192.0.2.80'
    assert dns.facts["rcode"] == "NOERROR" and not dns.remarks


@pytest.mark.parametrize("rcode, kind", [(3, "nxdomain"), (2, "servfail"), (5, "refused")])
def test_dns_errors(wire: Any, told: Tell, rcode: int, kind: str) -> None:
    ask(wire, rcode=rcode)
    story = told(wire)
    assert kinds(story) == [kind]
    assert kind.upper() in only(story, "dns").title


def test_a_question_without_an_answer(wire: Any, told: Tell) -> None:
    ask(wire)
    rest(wire)
    assert "no-answer" in kinds(told(wire))


def test_a_question_sent_twice(wire: Any, told: Tell) -> None:
    ask(wire)
    wire.now_ns += 1_000_000_000
    ask(wire, answer=("www.example.com A 300 192.0.2.80",))
    story = told(wire)
    assert len([t for t in story.tellings if t.kind == "dns"]) == 1
    assert kinds(story) == ["retransmission"]


def test_who_asks_on_behalf_of_whom(wire: Any, told: Tell) -> None:
    """home asks the resolver while pc1 waits for home."""
    first = len(wire.frames)
    ask(wire, answer=("www.example.com A 300 192.0.2.80",))
    answer = wire.frames[first + 2 :]
    del wire.frames[first + 2 :]
    wire.dns(
        "www.example.com", "home:wan", "resolver:eth0", number=8, rd=True, answer=("www.example.com A 300 192.0.2.80",)
    )
    for frame in answer:
        wire.now_ns += 10_000
        wire.frames.append(replace(frame, number=len(wire.frames) + 1, time_ns=wire.now_ns))
    pc1, home = [t for t in told(wire).tellings if t.kind == "dns"]
    assert (pc1.inside, home.inside) == (None, pc1.number)


def test_a_connection_through_nat(wire: Any, build: Any, told: Tell) -> None:
    talk = Connection(wire, build)
    talk.open()
    talk.get()
    talk.close()
    story = told(wire, tracking={"home": [TRACKED]})
    tcp = only(story, "tcp")
    assert "opened, 18 octets there, 19 back, closed" in tcp.title
    assert (tcp.facts["conn_state"], tcp.facts["meaning"]) == ("SF", "established and closed by both sides")
    (there, back) = tcp.ways
    assert (there.sender, there.receiver, there.packets, back.packets) == ("pc1", "web", 5, 3)
    (nat,) = [rewrite for rewrite in there.rewrites if rewrite.translated]
    assert nat.node == "home"
    assert nat.witness == (
        "its connection tracking has tcp 192.168.1.100:40000 → 192.0.2.80:80, answers tcp 192.0.2.80:80 → "
        "203.0.113.2:40000"
    )
    (http,) = tcp.parts
    assert http.title.startswith("pc1 asks web: GET http://www.example.com/ → 200 OK")
    assert not story.unusual
    (row,) = story.rows
    assert (row.orig_packets, row.resp_packets, row.state) == (5, 3, "SF")


@pytest.mark.parametrize(
    "tracking, words",
    [({}, "seen in the captures on both sides"), ({"home": [""]}, "had no such entry")],
    ids=["not asked", "no entry"],
)
def test_nat_without_its_witness(wire: Any, build: Any, told: Tell, tracking: Any, words: str) -> None:
    Connection(wire, build).open()
    (nat,) = [r for r in only(told(wire, tracking=tracking), "tcp").ways[0].rewrites if r.translated]
    assert words in nat.witness and "tracking has" not in nat.witness


def test_a_refused_connection(wire: Any, build: Any, told: Tell) -> None:
    talk = Connection(wire, build)
    talk.send("S", client=True)
    talk.send("RA", client=False)
    story = told(wire)
    assert kinds(story) == ["refused"]
    assert only(story, "tcp").facts["conn_state"] == "REJ"


def test_a_connection_that_nobody_answers(wire: Any, build: Any, told: Tell) -> None:
    Connection(wire, build).send("S", client=True)
    rest(wire)
    story = told(wire)
    assert "no-answer" in kinds(story) and only(story, "tcp").facts["conn_state"] == "S0"


def test_an_aborted_connection(wire: Any, build: Any, told: Tell) -> None:
    talk = Connection(wire, build)
    talk.open()
    talk.send("RA", client=False)
    story = told(wire)
    assert kinds(story) == ["reset"]
    assert "web aborts the connection with RST" in story.unusual[0][1].text


def test_a_retransmission_says_where_the_first_was_lost(wire: Any, build: Any, told: Tell) -> None:
    talk = Connection(wire, build)
    talk.open()
    lost = talk.send("PA", b"hello", client=True, hops=2)
    talk.seq[True] -= 5
    wire.now_ns += 200_000_000
    talk.send("PA", b"hello", client=True)
    (remark,) = [r for r in only(told(wire), "tcp").remarks if r.kind == "retransmission"]
    assert "pc1 sends 5 octets again" in remark.text
    assert f"the first was last seen at home:lan (frame {lost[-1].number})" in remark.text


def test_new_data_is_no_retransmission(wire: Any, build: Any, told: Tell) -> None:
    talk = Connection(wire, build)
    talk.open()
    talk.send("PA", b"hello", client=True)
    talk.send("PA", b"world", client=True)
    assert "retransmission" not in kinds(told(wire))


def test_the_same_ports_again_are_another_connection(wire: Any, build: Any, told: Tell) -> None:
    for start in (1000, 40_000):
        talk = Connection(wire, build)
        talk.number, talk.seq = start, {True: start, False: start + 500_000}
        talk.open()
        talk.close()
        wire.now_ns += 3_000_000_000
    story = told(wire)
    assert [t.facts["conn_state"] for t in story.tellings if t.kind == "tcp"] == ["SF", "SF"]


@pytest.mark.parametrize("status, wrong", [(404, True), (503, True), (301, False)])
def test_http_status(wire: Any, build: Any, told: Tell, status: int, wrong: bool) -> None:
    talk = Connection(wire, build)
    talk.open()
    talk.get("/x", status, "So")
    assert kinds(told(wire)) == (["http-error"] if wrong else [])


def test_http_without_a_response(wire: Any, build: Any, told: Tell) -> None:
    talk = Connection(wire, build)
    talk.open()
    talk.get()
    del wire.frames[-8:]
    assert kinds(told(wire)) == ["no-answer"]


def test_tls(wire: Any, build: Any, told: Tell) -> None:
    talk = Connection(wire, build)
    talk.open()
    hello = {"tls.record.content_type": (22,), "tls.handshake.type": (1,)}
    hello |= {"tls.handshake.extensions_server_name": ("new.qq.com",)}
    reply = {"tls.record.content_type": (22,), "tls.handshake.type": (2,)}
    reply |= {"tls.handshake.extensions.supported_version": (0x0304,)}
    talk.send("PA", b"\x16hello", client=True, fields=hello, layers=("tls",))
    talk.send("PA", b"\x16reply", client=False, fields=reply, layers=("tls",))
    (tls,) = only(told(wire), "tcp").parts
    assert tls.title == 'pc1 and web agree on TLS 1.3 for "new.qq.com"' and not tls.remarks
    alert = {"tls.record.content_type": (21,), "tls.alert_message.level": (2,), "tls.alert_message.desc": (48,)}
    talk.send("PA", b"\x15alert", client=True, fields=alert, layers=("tls",))
    story = told(wire)
    assert kinds(story) == ["tls-alert"]
    assert "pc1 gives up with the alert unknown CA (48)" in story.unusual[0][1].text


def ping(wire: Any, build: Any, number: int, *, answered: bool = True) -> None:
    request = build.Packet("icmp", PC1, WEB, icmp_seq=number, id=number)
    wire.route(request, *OUT, after=SNAT)
    if answered:
        reply = build.Packet("icmp", WEB, "203.0.113.2", icmp_seq=number, id=900 + number, icmp_type=0)
        wire.route(reply, *OUT[::-1], after={"home": {"dst": PC1}})


def test_ping(wire: Any, build: Any, told: Tell) -> None:
    for number in (1, 2):
        ping(wire, build, number)
    story = told(wire)
    found = only(story, "ping")
    assert found.title.startswith("pc1 pings web (192.0.2.80): 2 echo requests, 2 replies, round trip 0.1")
    assert found.round_trip_ns == 150_000 and not story.unusual


def test_ping_without_a_reply(wire: Any, build: Any, told: Tell) -> None:
    ping(wire, build, 1)
    ping(wire, build, 2, answered=False)
    story = told(wire)
    assert kinds(story) == ["no-answer"]
    assert "request 2 got no reply" in story.unusual[0][1].text


def test_an_icmp_error_belongs_to_what_it_is_about(wire: Any, build: Any, told: Tell) -> None:
    datagram = build.Packet("udp", PC1, WEB, 4000, 9, payload=b"x", id=5)
    wire.route(datagram, *OUT, after=SNAT)
    quoted = replace(datagram, src="203.0.113.2", ttl=62).octets()[14:]
    error = build.Packet("icmp", WEB, "203.0.113.2", icmp_type=3, id=6, payload=quoted, fields={"icmp.code": (3,)})
    wire.route(error, *OUT[::-1][:4])
    story = told(wire)
    (exchange,) = story.tellings
    assert exchange.kind == "udp"
    assert "web says destination unreachable: port unreachable" in exchange.remarks[0].text


def test_a_martian(wire: Any, build: Any, told: Tell) -> None:
    wire.carry(build.Packet("udp", "127.0.0.1", "192.168.1.1", 4000, 9), "pc1:eth0", "home:lan")
    assert "martian" in kinds(told(wire))


def test_an_address_that_is_written_with_dots_and_colons(wire: Any, build: Any, told: Tell) -> None:
    packet = build.Packet6("udp", "2001:db8::1", "2001:db8::2", 4000, 9, fields={"ipv6.src": ("::154.0.0.1",)})
    wire.carry(packet, "pc1:eth0", "home:lan")
    assert "martian" not in kinds(told(wire))


def test_a_private_source_is_no_martian(wire: Any, build: Any, told: Tell) -> None:
    wire.carry(build.Packet("udp", PC1, "192.168.1.1", 4000, 9), "pc1:eth0", "home:lan")
    assert not kinds(told(wire))


def test_a_wrong_checksum_and_a_malformed_frame(wire: Any, build: Any, told: Tell) -> None:
    packet = build.Packet(
        "udp", PC1, "192.168.1.1", 4000, 9, fields={"udp.checksum.status": (0,)}, layers=("malformed",)
    )
    wire.carry(packet, "pc1:eth0", "home:lan")
    assert sorted(kinds(told(wire))) == ["checksum", "malformed"]


def dhcp(wire: Any, build: Any, kind: int, server: bool, **fields: Any) -> None:
    ends = ("192.168.1.1", "255.255.255.255", 67, 68) if server else ("0.0.0.0", "255.255.255.255", 68, 67)
    more = {name.replace("__", ".").replace("_0", "_"): (value,) for name, value in fields.items()}
    values = {
        "dhcp.id": (77,), "dhcp.hw.mac_addr": (wire.mac("pc1:eth0"),), "dhcp.option.dhcp": (kind,), **more
    }  # fmt: skip
    packet = build.Packet("udp", *ends, payload=bytes([kind]), id=kind, fields=values, layers=("dhcp",))
    wire.carry(packet, *(("home:lan", "pc1:eth0") if server else ("pc1:eth0", "home:lan")))


def test_dhcp(wire: Any, build: Any, told: Tell) -> None:
    dhcp(wire, build, 1, False)
    dhcp(wire, build, 2, True, dhcp__ip__your=PC1)
    dhcp(wire, build, 3, False)
    dhcp(wire, build, 5, True, dhcp__ip__your=PC1, dhcp__option__ip_address_lease_time=3600)
    found = only(told(wire), "dhcp")
    assert found.title == "pc1 gets 192.168.1.100 from home for 3,600 s"
    assert found.facts["messages"] == ["Discover", "Offer", "Request", "Ack"] and not found.remarks


def test_dhcp_refused_and_unanswered(wire: Any, build: Any, told: Tell) -> None:
    dhcp(wire, build, 3, False)
    rest(wire)
    assert "no-answer" in kinds(told(wire))
    dhcp(wire, build, 6, True)
    assert "dhcp-nak" in kinds(told(wire))


def neighbour(wire: Any, build: Any, kind: int, source: str, target: str, place: str, **fields: Any) -> None:
    name = "icmpv6.nd.ns.target_address" if kind == 135 else "icmpv6.nd.na.target_address"
    more = {key.replace("__", "."): (value,) for key, value in fields.items()}
    packet = build.Packet6(
        "icmpv6", source, fields.pop("to", "ff02::1:ff00:1"), icmp_type=kind, payload=b"nd" + bytes([kind]),
        fields={name: (target,), **more},
    )  # fmt: skip
    wire.see_packet(place, "out", packet)


def test_neighbour_discovery(wire: Any, build: Any, told: Tell) -> None:
    neighbour(wire, build, 135, "fe80::1", "fe80::2", "pc1:eth0")
    neighbour(wire, build, 136, "fe80::2", "fe80::2", "home:lan", to="fe80::1")
    found = only(told(wire), "nd")
    assert "pc1 asks the group of fe80::2 for its MAC; home answers" in found.title and not found.remarks


def test_duplicate_address_detection(wire: Any, build: Any, told: Tell) -> None:
    neighbour(wire, build, 135, "::", "fe80::2", "pc1:eth0")
    assert "it is free" in only(told(wire), "nd").title
    neighbour(wire, build, 136, "fe80::2", "fe80::2", "home:lan", to="ff02::1")
    assert kinds(told(wire)) == ["duplicate-address"]


def test_router_discovery(wire: Any, build: Any, told: Tell) -> None:
    ask = build.Packet6("icmpv6", "fe80::1", "ff02::2", icmp_type=133, payload=b"rs")
    wire.carry(ask, "pc1:eth0", "home:lan")
    fields = {
        "icmpv6.opt.prefix": ("2001:db8::",), "icmpv6.opt.prefix.length": (64,), "icmpv6.nd.ra.router_lifetime": (1800,)
    }  # fmt: skip
    wire.carry(build.Packet6("icmpv6", "fe80::2", "ff02::1", icmp_type=134, payload=b"ra", fields=fields),
               "home:lan", "pc1:eth0")  # fmt: skip
    found = only(told(wire), "router-discovery")
    assert "pc1 asks for a router; home advertises itself as a router for 1,800 s, prefix 2001:db8::/64" in found.title


def test_spanning_tree(wire: Any, told: Tell) -> None:
    fields = {"stp.root.hw": (wire.mac("sw:pc1"),), "eth.src": (wire.mac("sw:pc1"),), "stp.flags.tc": (True,)}
    wire.see("sw:pc1", "out", fields, ("eth", "llc", "stp"), b"\1bpdu")
    story = told(wire)
    assert "(sw)" in only(story, "stp").title and kinds(story) == ["topology-change"]


def test_lost_frames_are_told_first(wire: Any, build: Any) -> None:
    Connection(wire, build).open()
    wire.dropped["home:wan"] = 3
    evidence: Evidence = wire.evidence()
    story = tell(Recording(evidence.frames, evidence.interfaces, of_capture(evidence.interfaces, evidence.frames)))
    assert [remark.kind for remark in story.remarks] == ["capture-gap"]


def test_a_capture_of_ours_without_the_lab(wire: Any, build: Any) -> None:
    """Names of interfaces, MACs and the frames tell who is who."""
    talk = Connection(wire, build)
    talk.open()
    talk.get()
    talk.close()
    evidence: Evidence = wire.evidence()
    interfaces = [replace(i, mac=wire.mac(i.name)) for i in evidence.interfaces]
    story = tell(Recording(evidence.frames, interfaces, of_capture(interfaces, evidence.frames)))
    tcp = only(story, "tcp")
    assert tcp.title.startswith("pc1 192.168.1.100:40000 → web 192.0.2.80:80: opened")
    assert [rewrite.node for rewrite in tcp.ways[0].rewrites] == ["home", "isp"]
    assert not story.unusual and len(story.rows) == 1


def test_a_capture_of_somebody_else(wire: Any, build: Any) -> None:
    """One interface without a name of ours and without directions: addresses take the place of nodes."""
    talk = Connection(wire, build)
    talk.open()
    talk.close()
    evidence: Evidence = wire.evidence()
    frames = [
        replace(frame, number=number, interface="eth0", direction=None)
        for number, frame in enumerate((f for f in evidence.frames if f.interface == "pc1:eth0"), 1)
    ]
    interfaces = [replace(evidence.interfaces[0], name="eth0")]
    story = tell(Recording(frames, interfaces, of_capture(interfaces, frames)))
    tcp = only(story, "tcp")
    assert tcp.title == "192.168.1.100:40000 → 192.0.2.80:80: opened, 0 octets there, 0 back, closed"
    assert not tcp.ways and not story.unusual


def test_nothing_at_all() -> None:
    story = tell(Recording((), (), of_capture((), ())))
    assert (story.tellings, story.rows, story.unusual) == ((), (), [])


def test_an_address_that_several_networks_have(wire: Any, build: Any) -> None:
    """Who is meant is the one on the way; of nobody on the way only the address is told."""
    Connection(wire, build).send("S", client=True)
    evidence: Evidence = wire.evidence()
    around = of_lab(wire.lab, wire.after, evidence.interfaces)
    around.own(WEB, "outside")
    around.own(PC1, "server")
    story = tell(Recording(evidence.frames, evidence.interfaces, around))
    assert only(story, "tcp").title.startswith(f"pc1 {PC1}:40000 → web {WEB}:80")
    assert around.party(WEB) == WEB
    assert around.party(WEB, ("pc1", "outside")) == "outside"


def test_an_icmp_error_about_dhcp_belongs_to_it(wire: Any, build: Any, told: Tell) -> None:
    offer = {"dhcp.id": (77,), "dhcp.hw.mac_addr": (wire.mac("pc1:eth0"),), "dhcp.option.dhcp": (5,)}
    packet = build.Packet("udp", "192.168.1.1", PC1, 67, 68, payload=b"ack", fields=offer, layers=("dhcp",))
    wire.carry(packet, "home:lan", "pc1:eth0")
    error = build.Packet(
        "icmp", PC1, "192.168.1.1", icmp_type=3, payload=packet.octets()[14:], fields={"icmp.code": (3,)}
    )
    wire.carry(error, "pc1:eth0", "home:lan")
    story = told(wire)
    assert [t.kind for t in story.tellings] == ["dhcp"] and kinds(story) == ["icmp-error"]
