"""Fields of link, network and transport headers, named as Wireshark names them. Pure: headers come dissected."""

from __future__ import annotations

from typing import Any, Final

from emulator.capture.application import Fields
from emulator.capture.frame import Value

_NOWHERE: Final = "0.0.0.0"
_NOBODY: Final = "00:00:00:00:00:00"
_TCP_FLAGS: Final = {"fin": 0x01, "syn": 0x02, "reset": 0x04, "push": 0x08, "ack": 0x10, "urg": 0x20}


def arp_fields(header: Any) -> Fields:
    """The fields of an ARP packet (RFC 826); addresses only where they are MAC and IPv4."""
    fields: Fields = {
        "arp.hw.type": [header.hwtype],
        "arp.proto.type": [header.ptype],
        "arp.opcode": [header.op],
    }
    if header.hwtype == 1 and header.hwlen == 6:
        fields["arp.src.hw_mac"] = [header.hwsrc]
        fields["arp.dst.hw_mac"] = [header.hwdst]
    if header.ptype == 0x0800 and header.plen == 4:
        fields["arp.src.proto_ipv4"] = [header.psrc]
        fields["arp.dst.proto_ipv4"] = [header.pdst]
        # As Wireshark's, these are there only when they are true. Probes and announcements are requests with zeros for
        # the target's MAC (RFC 5227, sections 2.1.1 and 2.3).
        asks = header.op == 1 and header.hwlen == 6 and header.hwdst == _NOBODY
        if header.psrc == header.pdst and header.op in {1, 2}:
            fields["arp.isgratuitous"] = [True]
            if asks:
                fields["arp.isannouncement"] = [True]
        elif asks and header.psrc == _NOWHERE:
            fields["arp.isprobe"] = [True]
    return fields


def ip_fields(header: Any, checksum_status: int) -> Fields:
    """The fields of an IPv4 header (RFC 791); the fragment offset in units of 8 octets, as Wireshark compares it."""
    flags = int(header.flags)
    return {
        "ip.version": [header.version],
        "ip.hdr_len": [header.ihl * 4],
        "ip.dsfield": [header.tos],
        "ip.len": [header.len],
        "ip.id": [header.id],
        "ip.flags.df": [bool(flags & 2)],
        "ip.flags.mf": [bool(flags & 1)],
        "ip.frag_offset": [header.frag],
        "ip.ttl": [header.ttl],
        "ip.proto": [header.proto],
        "ip.checksum": [header.chksum],
        "ip.checksum.status": [checksum_status],
        "ip.src": [header.src],
        "ip.dst": [header.dst],
        "ip.addr": [header.src, header.dst],
    }


def ipv6_fields(header: Any) -> Fields:
    """The fields of an IPv6 header (RFC 8200)."""
    return {
        "ipv6.version": [header.version],
        "ipv6.tclass": [header.tc],
        "ipv6.flow": [header.fl],
        "ipv6.plen": [header.plen],
        "ipv6.nxt": [header.nh],
        "ipv6.hlim": [header.hlim],
        "ipv6.src": [header.src],
        "ipv6.dst": [header.dst],
        "ipv6.addr": [header.src, header.dst],
    }


def icmp_fields(header: Any, checksum_status: int) -> Fields:
    """The fields of an ICMP header (RFC 792)."""
    fields: Fields = {
        "icmp.type": [header.type],
        "icmp.code": [header.code],
        "icmp.checksum": [header.chksum],
        "icmp.checksum.status": [checksum_status],
    }
    if "id" in header.fields:
        fields["icmp.ident"] = [header.id]
        fields["icmp.seq"] = [header.seq]
    if header.type == 3 and header.code == 4:
        fields["icmp.mtu"] = [header.nexthopmtu]
    if header.type == 5:
        fields["icmp.redir_gw"] = [header.gw]
    return fields


def icmpv6_fields(header: Any, checksum_status: int) -> Fields:
    """The fields of an ICMPv6 header (RFC 4443) and of neighbour discovery (RFC 4861)."""
    fields: Fields = {
        "icmpv6.type": [header.type],
        "icmpv6.code": [header.code],
        "icmpv6.checksum": [header.cksum],
        "icmpv6.checksum.status": [checksum_status],
    }
    if header.type in {128, 129} and "id" in header.fields:
        fields["icmpv6.echo.identifier"] = [header.id]
        fields["icmpv6.echo.sequence_number"] = [header.seq]
    elif header.type == 2 and "mtu" in header.fields:
        fields["icmpv6.mtu"] = [header.mtu]
    elif header.type == 134 and "routerlifetime" in header.fields:
        fields["icmpv6.nd.ra.cur_hop_limit"] = [header.chlim]
        fields["icmpv6.nd.ra.flag.m"] = [bool(header.M)]
        fields["icmpv6.nd.ra.flag.o"] = [bool(header.O)]
        fields["icmpv6.nd.ra.router_lifetime"] = [header.routerlifetime]
        fields["icmpv6.nd.ra.reachable_time"] = [header.reachabletime]
        fields["icmpv6.nd.ra.retrans_timer"] = [header.retranstimer]
    elif header.type == 135 and "tgt" in header.fields:
        fields["icmpv6.nd.ns.target_address"] = [header.tgt]
    elif header.type == 136 and "tgt" in header.fields:
        fields["icmpv6.nd.na.target_address"] = [header.tgt]
        fields["icmpv6.nd.na.flag.r"] = [bool(header.R)]
        fields["icmpv6.nd.na.flag.s"] = [bool(header.S)]
        fields["icmpv6.nd.na.flag.o"] = [bool(header.O)]
    return fields


def tcp_fields(header: Any, payload_octets: int, checksum_status: int) -> Fields:
    """The fields of a TCP header (RFC 9293, RFC 7323, RFC 2018); `payload_octets` as the IP header announces them."""
    flags = header.reserved << 9 | int(header.flags)
    fields: Fields = {
        "tcp.srcport": [header.sport],
        "tcp.dstport": [header.dport],
        "tcp.port": [header.sport, header.dport],
        "tcp.seq_raw": [header.seq],
        "tcp.ack_raw": [header.ack],
        "tcp.hdr_len": [header.dataofs * 4],
        "tcp.len": [payload_octets],
        "tcp.flags": [flags],
        "tcp.window_size_value": [header.window],
        "tcp.checksum": [header.chksum],
        "tcp.checksum.status": [checksum_status],
        "tcp.urgent_pointer": [header.urgptr],
    }
    for name, bit in _TCP_FLAGS.items():
        fields[f"tcp.flags.{name}"] = [bool(flags & bit)]
    for name, value in header.options:
        if name == "Timestamp" and isinstance(value, tuple):
            fields["tcp.options.timestamp.tsval"] = [value[0]]
            fields["tcp.options.timestamp.tsecr"] = [value[1]]
        elif name == "MSS" and isinstance(value, int):
            fields.setdefault("tcp.options.mss_val", []).append(value)
        elif name == "WScale" and isinstance(value, int):
            fields.setdefault("tcp.options.wscale.shift", []).append(value)
        elif name == "SAckOK" and not value:
            fields["tcp.options.sack_perm"] = [True]
        elif name == "SAck" and isinstance(value, tuple):
            fields["tcp.options.sack.count"] = [len(value) // 2]
    return fields


def udp_fields(header: Any, checksum_status: int) -> Fields:
    """The fields of a UDP header (RFC 768)."""
    return {
        "udp.srcport": [header.sport],
        "udp.dstport": [header.dport],
        "udp.port": [header.sport, header.dport],
        "udp.length": [header.len],
        "udp.checksum": [header.chksum],
        "udp.checksum.status": [checksum_status],
    }


def prefixed(prefix: str, fields: Fields, *names: str) -> dict[str, list[Value]]:
    """Those of `fields` that `names` name, each with `prefix` before its name."""
    return {prefix + name: fields[name] for name in names if name in fields}
