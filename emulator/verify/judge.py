"""The judge: every check of a lab against the evidence, in the order of the layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from emulator.errors import printable
from emulator.lab.checks import application, frames, link, network, transport
from emulator.lab.checks.base import LAYERS, Check
from emulator.lab.resolved import ResolvedLab
from emulator.verify.arp import address_conflict, arp_resolution, next_hop_mac
from emulator.verify.conntrack import conntrack_agrees
from emulator.verify.dhcp import dhcp_exchange, dhcp_renewal, lease
from emulator.verify.dns import answered_from_cache, referral_chain
from emulator.verify.dns_answer import dns_answer, dns_rotates, dns_ttl_falls
from emulator.verify.encapsulation import bit_stream, encapsulation
from emulator.verify.evidence import Evidence
from emulator.verify.finding import DisprovedError, Finding, MissingEvidenceError, failed
from emulator.verify.general import in_order, never_seen, seen
from emulator.verify.http import http_page
from emulator.verify.ip import hop_count, private_dropped, unanswered
from emulator.verify.ipv6 import neighbour_discovery
from emulator.verify.nat import destination_nat, port_translation, source_nat
from emulator.verify.output import command_output
from emulator.verify.path import end_to_end, path
from emulator.verify.physical import checksums, links_carry, re_encode, within_mtu
from emulator.verify.slaac import duplicate_address_detection, slaac
from emulator.verify.stp import spanning_tree
from emulator.verify.subnet import subnet_arithmetic
from emulator.verify.switch import mac_table, no_flooding
from emulator.verify.tcp import retransmission, tcp_acknowledged, tcp_close, tcp_handshake, tcp_stream
from emulator.verify.tls import tls_handshake
from emulator.verify.udp import lost
from emulator.verify.verdict import Result, Verdict
from emulator.verify.view import View

_REASON_CHARACTERS = 600

JUDGES: Mapping[type[Check], Callable[[Any, View], Finding]] = {
    frames.LinksCarry: links_carry,
    frames.ReEncode: re_encode,
    frames.WithinMtu: within_mtu,
    frames.Checksums: checksums,
    frames.Seen: seen,
    frames.NeverSeen: never_seen,
    frames.InOrder: in_order,
    link.ArpResolution: arp_resolution,
    link.NextHopMac: next_hop_mac,
    link.MacTable: mac_table,
    link.NoFlooding: no_flooding,
    application.Lease: lease,
    application.DhcpExchange: dhcp_exchange,
    network.HopCount: hop_count,
    network.SourceNat: source_nat,
    network.PortTranslation: port_translation,
    network.DestinationNat: destination_nat,
    network.Unanswered: unanswered,
    network.PrivateDropped: private_dropped,
    network.ConntrackAgrees: conntrack_agrees,
    transport.TcpHandshake: tcp_handshake,
    transport.TcpAcknowledged: tcp_acknowledged,
    transport.TcpClose: tcp_close,
    application.ReferralChain: referral_chain,
    application.AnsweredFromCache: answered_from_cache,
    application.HttpPage: http_page,
    network.NeighbourDiscovery: neighbour_discovery,
    network.DuplicateAddressDetection: duplicate_address_detection,
    network.Slaac: slaac,
    link.SpanningTree: spanning_tree,
    application.DhcpRenewal: dhcp_renewal,
    application.DnsAnswer: dns_answer,
    application.DnsTtlFalls: dns_ttl_falls,
    application.DnsRotates: dns_rotates,
    application.TlsHandshake: tls_handshake,
    frames.CommandOutput: command_output,
    frames.PacketPath: path,
    frames.EndToEnd: end_to_end,
    frames.Encapsulation: encapsulation,
    frames.BitStream: bit_stream,
    network.SubnetArithmetic: subnet_arithmetic,
    link.AddressConflict: address_conflict,
    transport.TcpStream: tcp_stream,
    transport.Retransmission: retransmission,
    transport.Lost: lost,
}
"""Kind of check → the function that judges it."""


def judge(lab: ResolvedLab, evidence: Evidence) -> tuple[Result, ...]:
    """The verdict on every check of `lab`, by layer from the lowest up, in each layer in the order of the file."""
    everything = View.of(lab, evidence)
    views = {check.scene: everything.limited_to(check.scene) for check in lab.checks}
    ordered = sorted(lab.checks, key=lambda check: LAYERS.index(check.layer))
    return tuple(_judged(check, views[check.scene]) for check in ordered)


def _judged(check: Check, view: View) -> Result:
    finding = _found(check, view)
    reason = " ".join(printable(finding.reason).split())
    if len(reason) > _REASON_CHARACTERS:
        reason = reason[: _REASON_CHARACTERS - 1] + "…"
    return Result(check.name, check.layer, finding.verdict, reason, finding.frames)


def _found(check: Check, view: View) -> Finding:
    """What the check's own function finds; UNKNOWN when evidence is missing or the function itself fails."""
    try:
        if check.scene is not None and check.scene not in view.evidence.windows:
            raise MissingEvidenceError(f'scene "{check.scene}" never ran')
        finding = JUDGES[type(check)](check, view)
        gap = None if finding.whole_at is None else view.gaps(finding.whole_at)
    except MissingEvidenceError as missing:
        return Finding(Verdict.UNKNOWN, str(missing))
    except DisprovedError as disproved:
        return failed(str(disproved))
    except Exception as crash:
        return Finding(Verdict.UNKNOWN, f"the check itself failed: {type(crash).__name__}: {crash}")
    if gap is not None:
        return Finding(Verdict.UNKNOWN, f"{gap}; otherwise: {finding.verdict}, {finding.reason}", finding.frames)
    return finding
