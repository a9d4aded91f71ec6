"""The fields and protocols that a filter may name; the names are Wireshark's."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum


class FieldType(Enum):
    """What a field's values are; its value is what an error message calls them."""

    NUMBER = "a number"
    DECIMAL = "a number, perhaps with a decimal point"
    TIME = 'a time in quotes, such as "2030-01-31 12:00:00Z"'
    FLAG = "1 or 0"
    ADDRESS4 = "an IPv4 address or prefix"
    ADDRESS6 = "an IPv6 address or prefix"
    MAC = "a MAC address"
    TEXT = "text"
    OCTETS = "octets, as text in quotes or as 01:02:03"


_BY_TYPE = {
    FieldType.NUMBER: """
        frame.number frame.len frame.cap_len eth.type eth.len vlan.id vlan.priority vlan.etype
        llc.dsap llc.ssap llc.control
        stp.protocol stp.version stp.type stp.flags stp.flags.port_role stp.root.prio stp.root.ext stp.root.cost
        stp.bridge.prio stp.bridge.ext stp.port
        arp.opcode arp.hw.type arp.proto.type
        ip.version ip.hdr_len ip.dsfield ip.len ip.id ip.frag_offset ip.ttl ip.proto ip.checksum ip.checksum.status
        ipv6.version ipv6.tclass ipv6.flow ipv6.plen ipv6.nxt ipv6.hlim ipv6.fraghdr.offset
        icmp.type icmp.code icmp.ident icmp.seq icmp.mtu icmp.checksum icmp.checksum.status
        icmpv6.type icmpv6.code icmpv6.mtu icmpv6.checksum icmpv6.checksum.status
        icmpv6.echo.identifier icmpv6.echo.sequence_number
        icmpv6.nd.ra.cur_hop_limit icmpv6.nd.ra.router_lifetime icmpv6.nd.ra.reachable_time
        icmpv6.nd.ra.retrans_timer icmpv6.opt.type icmpv6.opt.mtu icmpv6.opt.prefix.length
        icmpv6.opt.prefix.valid_lifetime icmpv6.opt.prefix.preferred_lifetime icmpv6.opt.route_lifetime
        icmpv6.opt.rdnss.lifetime icmpv6.opt.dnssl.lifetime
        tcp.srcport tcp.dstport tcp.port tcp.seq_raw tcp.ack_raw tcp.flags tcp.len tcp.hdr_len tcp.window_size_value
        tcp.checksum tcp.checksum.status tcp.urgent_pointer tcp.options.mss_val tcp.options.wscale.shift
        tcp.options.sack.count tcp.options.timestamp.tsval tcp.options.timestamp.tsecr
        udp.srcport udp.dstport udp.port udp.length udp.checksum udp.checksum.status
        dhcp.type dhcp.id dhcp.secs dhcp.option.dhcp dhcp.option.request_list_item
        dhcp.option.ip_address_lease_time dhcp.option.renewal_time_value dhcp.option.rebinding_time_value
        dns.id dns.flags.opcode dns.flags.rcode dns.qry.type dns.resp.type dns.resp.ttl dns.rr.udp_payload_size
        dns.count.queries dns.count.answers dns.count.auth_rr dns.count.add_rr dns.soa.serial_number
        dns.rrsig.type_covered dns.rrsig.algorithm dns.rrsig.key_tag dns.ds.key_id dns.ds.algorithm dns.ds.digest_type
        dns.dnskey.flags dns.dnskey.algorithm dns.dnskey.key_id
        http.response.code http.content_length
        tls.record.content_type tls.record.version tls.record.length tls.handshake.type tls.handshake.version
        tls.handshake.ciphersuite tls.handshake.extensions.supported_version
        tls.alert_message.level tls.alert_message.desc
        wirelab.icmp.ip.id wirelab.icmp.ip.ttl wirelab.icmp.ip.proto wirelab.icmp.ip.len
        wirelab.icmp.tcp.srcport wirelab.icmp.tcp.dstport wirelab.icmp.udp.srcport wirelab.icmp.udp.dstport
        wirelab.icmp.icmp.type wirelab.icmp.icmp.code wirelab.icmp.icmp.ident wirelab.icmp.icmp.seq
        wirelab.icmpv6.ipv6.hlim wirelab.icmpv6.ipv6.nxt
        wirelab.icmpv6.tcp.srcport wirelab.icmpv6.tcp.dstport wirelab.icmpv6.udp.srcport wirelab.icmpv6.udp.dstport
        wirelab.icmpv6.icmp.type wirelab.icmpv6.icmp.code wirelab.icmpv6.icmp.ident wirelab.icmpv6.icmp.seq""",
    FieldType.DECIMAL: "stp.msg_age stp.max_age stp.hello stp.forward",
    FieldType.TIME: "dns.rrsig.signature_expiration dns.rrsig.signature_inception",
    FieldType.FLAG: """
        arp.isprobe arp.isgratuitous arp.isannouncement ip.flags.df ip.flags.mf ipv6.fraghdr.more
        stp.flags.tcack stp.flags.tc stp.flags.agreement stp.flags.forwarding stp.flags.learning stp.flags.proposal
        icmpv6.nd.na.flag.r icmpv6.nd.na.flag.s icmpv6.nd.na.flag.o icmpv6.nd.ra.flag.m icmpv6.nd.ra.flag.o
        icmpv6.opt.prefix.flag.l icmpv6.opt.prefix.flag.a
        tcp.flags.syn tcp.flags.ack tcp.flags.fin tcp.flags.reset tcp.flags.push tcp.flags.urg dhcp.flags.bc
        dns.flags.response dns.flags.authoritative dns.flags.truncated dns.flags.recdesired dns.flags.recavail
        dns.flags.authenticated dns.flags.checkdisable dns.resp.z.do
        http.request http.response _ws.malformed""",
    FieldType.ADDRESS4: """
        arp.src.proto_ipv4 arp.dst.proto_ipv4 ip.src ip.dst ip.addr icmp.redir_gw
        dhcp.ip.client dhcp.ip.your dhcp.ip.server dhcp.ip.relay
        dhcp.option.requested_ip_address dhcp.option.dhcp_server_id dhcp.option.subnet_mask dhcp.option.router
        dhcp.option.domain_name_server dhcp.option.broadcast_address
        dns.a wirelab.icmp.ip.src wirelab.icmp.ip.dst""",
    FieldType.ADDRESS6: """
        ipv6.src ipv6.dst ipv6.addr icmpv6.nd.ns.target_address icmpv6.nd.na.target_address
        icmpv6.opt.prefix icmpv6.opt.rdnss dns.aaaa
        wirelab.icmpv6.ipv6.src wirelab.icmpv6.ipv6.dst""",
    FieldType.MAC: """
        eth.src eth.dst eth.addr arp.src.hw_mac arp.dst.hw_mac dhcp.hw.mac_addr stp.root.hw stp.bridge.hw
        icmpv6.opt.linkaddr icmpv6.opt.src_linkaddr icmpv6.opt.target_linkaddr""",
    FieldType.TEXT: """
        frame.interface_name icmpv6.opt.dnssl
        dhcp.option.domain_name dhcp.option.hostname dhcp.option.message dhcp.option.vendor_class_id
        dns.qry.name dns.resp.name dns.ns dns.cname dns.ptr.domain_name dns.mx.mail_exchange dns.txt
        dns.soa.mname dns.soa.rname dns.rrsig.signers_name dns.nsec.next_domain_name
        wirelab.dns.answer wirelab.dns.authority wirelab.dns.additional
        http.request.method http.request.uri http.request.version http.response.version http.response.phrase
        http.host http.user_agent http.server http.content_type http.location http.connection
        tls.handshake.extensions_server_name""",
    FieldType.OCTETS: "tcp.payload udp.payload http.file_data tls.app_data icmpv6.opt.nonce",
}

KNOWN_FIELDS: Mapping[str, FieldType] = {name: kind for kind, names in _BY_TYPE.items() for name in names.split()}
"""Every field that a filter may name."""

KNOWN_PROTOCOLS = frozenset(
    {
        "frame",
        "eth",
        "vlan",
        "arp",
        "ip",
        "ipv6",
        "icmp",
        "icmpv6",
        "tcp",
        "udp",
        "dhcp",
        "dns",
        "http",
        "data",
        "llc",
        "stp",
        "tls",
        "malformed",
        "tcp.options.sack_perm",
    }
)
"""Every protocol whose presence a filter may ask for. (To Wireshark a TCP option is one.)"""
