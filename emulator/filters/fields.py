"""The fields and protocols that a filter may name; the names are Wireshark's."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum


class FieldType(Enum):
    """What a field's values are; its value is what an error message calls them."""

    NUMBER = "a number"
    FLAG = "1 or 0"
    ADDRESS4 = "an IPv4 address or prefix"
    ADDRESS6 = "an IPv6 address or prefix"
    MAC = "a MAC address"
    TEXT = "text"
    OCTETS = "octets, as text in quotes or as 01:02:03"


_BY_TYPE = {
    FieldType.NUMBER: """
        frame.number frame.len frame.cap_len eth.type vlan.id arp.opcode
        ip.version ip.ttl ip.id ip.proto ip.len ip.hdr_len ip.frag_offset ip.checksum ip.checksum.status
        ipv6.hlim ipv6.nxt ipv6.plen icmp.type icmp.code icmp.ident icmp.seq icmp.checksum.status
        icmpv6.type icmpv6.code
        tcp.srcport tcp.dstport tcp.port tcp.seq_raw tcp.ack_raw tcp.flags tcp.len tcp.window_size_value
        tcp.checksum.status tcp.options.mss_val udp.srcport udp.dstport udp.port udp.length udp.checksum.status
        dhcp.type dhcp.id dhcp.option.dhcp dhcp.option.ip_address_lease_time dhcp.option.renewal_time_value
        dns.id dns.flags.opcode dns.flags.rcode dns.qry.type
        dns.count.queries dns.count.answers dns.count.auth_rr dns.count.add_rr dns.resp.type dns.resp.ttl
        http.response.code http.content_length""",
    FieldType.FLAG: """
        arp.isgratuitous ip.flags.df ip.flags.mf
        tcp.flags.syn tcp.flags.ack tcp.flags.fin tcp.flags.reset tcp.flags.push tcp.flags.urg dhcp.flags.bc
        dns.flags.response dns.flags.authoritative dns.flags.truncated dns.flags.recdesired dns.flags.recavail
        _ws.malformed""",
    FieldType.ADDRESS4: """
        arp.src.proto_ipv4 arp.dst.proto_ipv4 ip.src ip.dst ip.addr dhcp.ip.client dhcp.ip.your
        dhcp.ip.server dhcp.ip.relay dhcp.option.requested_ip_address dhcp.option.dhcp_server_id
        dhcp.option.subnet_mask dhcp.option.router dhcp.option.domain_name_server dns.a""",
    FieldType.ADDRESS6: """
        ipv6.src ipv6.dst ipv6.addr icmpv6.nd.ns.target_address icmpv6.nd.na.target_address dns.aaaa""",
    FieldType.MAC: "eth.src eth.dst eth.addr arp.src.hw_mac arp.dst.hw_mac dhcp.hw.mac_addr",
    FieldType.TEXT: """
        frame.interface_name dhcp.option.domain_name dhcp.option.hostname
        dns.qry.name dns.resp.name dns.ns dns.cname dns.soa.mname
        wirelab.dns.answer wirelab.dns.authority wirelab.dns.additional
        http.request.method http.request.uri http.host http.user_agent""",
    FieldType.OCTETS: "tcp.payload udp.payload http.file_data",
}

KNOWN_FIELDS: Mapping[str, FieldType] = {name: kind for kind, names in _BY_TYPE.items() for name in names.split()}
"""Every field that a filter may name."""

KNOWN_PROTOCOLS = frozenset(
    {"frame", "eth", "vlan", "arp", "ip", "ipv6", "icmp", "icmpv6", "tcp", "udp", "dhcp", "dns", "http", "data"}
)
"""Every protocol whose presence a filter may ask for."""
