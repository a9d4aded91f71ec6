"""UDP, ICMP, other transports, checksums and fragments: which packet counts where."""

from __future__ import annotations

import struct

import pytest

from emulator.flows.connection import Row

from .wire import (
    CLIENT,
    CLIENT6,
    SERVER,
    SERVER6,
    UDP,
    Wire,
    damaged,
    ethernet,
    icmp,
    ip,
    ipv4,
    ipv6,
    tcp,
    tcp_segment,
    udp,
)

OTHER = "203.0.113.7"


def ends(row: Row) -> tuple[str, int, str, int]:
    return row.orig_address, row.orig_port, row.resp_address, row.resp_port


def query(answer: bool = False) -> bytes:
    return struct.pack("!HHHHHH", 7, 0x8180 if answer else 0x0100, 1, 0, 0, 0)


def ntp(mode: int) -> bytes:
    return bytes((0x20 | mode,)) + bytes(47)


class TestUdp:
    def test_sf_is_asked_and_answered(self) -> None:
        wire = Wire().send(udp(CLIENT, 5000, SERVER, 53, query())).send(udp(SERVER, 53, CLIENT, 5000, query(True)))
        row = wire.row()
        assert (row.protocol, row.state, row.history) == ("udp", "SF", "Dd")
        assert (row.orig_packets, row.resp_packets, row.orig_bytes, row.resp_bytes) == (1, 1, 12, 12)

    def test_s0_is_asked_only(self) -> None:
        assert Wire().send(udp(CLIENT, 5000, SERVER, 6000, b"x")).told() == [("S0", "D", 1, 0)]

    def test_shr_is_answered_only(self) -> None:
        row = Wire().send(udp(SERVER, 53, CLIENT, 5000, query(True))).row()
        assert (row.state, row.history, ends(row)) == ("SHR", "^d", (CLIENT, 5000, SERVER, 53))

    def test_a_broadcast_is_never_the_originator(self) -> None:
        row = Wire().send(udp("192.0.2.1", 67, "255.255.255.255", 68, b"offer")).row()
        assert (row.state, row.orig_address) == ("S0", "192.0.2.1")

    def test_a_minute_of_silence_ends_it(self) -> None:
        packet = udp(CLIENT, 5000, SERVER, 6000, b"x")
        assert len(Wire().send(packet).wait(59).send(packet).rows()) == 1
        assert len(Wire().send(packet).wait(61).send(packet).rows()) == 2

    def test_dns_ends_after_ten_seconds(self) -> None:
        packet = udp(CLIENT, 5000, SERVER, 53, query())
        assert len(Wire().send(packet).wait(8).send(packet).rows()) == 1
        assert len(Wire().send(packet).wait(11).send(packet).rows()) == 2

    def test_dns_that_goes_on_does_not(self) -> None:
        wire = Wire()
        for _ in range(10):
            wire.wait(4).send(udp(CLIENT, 5000, SERVER, 53, query()))
        assert len(wire.rows()) == 1

    def test_between_resolvers_the_first_answer_tells_who_asked(self) -> None:
        wire = Wire().send(udp(SERVER, 53, CLIENT, 53, query(True))).send(udp(CLIENT, 53, SERVER, 53, query()))
        row = wire.row()
        assert (ends(row), row.history, row.orig_packets) == ((CLIENT, 53, SERVER, 53), "D^", 2)

    def test_but_not_an_announcement_to_a_group(self) -> None:
        row = Wire().send(udp(CLIENT, 5353, "224.0.0.251", 5353, query(True))).row()
        assert (row.orig_address, row.state) == (CLIENT, "S0")

    def test_and_not_a_later_answer(self) -> None:
        wire = Wire().send(udp(CLIENT, 53, SERVER, 53, query())).send(udp(CLIENT, 53, SERVER, 53, query(True)))
        assert wire.row().history == "D"

    @pytest.mark.parametrize(("mode", "flips"), [(3, False), (4, True), (1, False)])
    def test_ntp_says_who_is_the_server(self, mode: int, flips: bool) -> None:
        assert Wire().send(udp(SERVER, 123, CLIENT, 123, ntp(mode))).row().history == ("D^" if flips else "D")

    def test_a_datagram_without_payload(self) -> None:
        assert Wire().send(udp(CLIENT, 5000, SERVER, 6000)).told() == [("S0", "D", 1, 0)]


class TestIcmp:
    @pytest.mark.parametrize(
        ("source", "destination", "asks", "answers"), [(CLIENT, SERVER, 8, 0), (CLIENT6, SERVER6, 128, 129)]
    )
    def test_echo_and_its_reply_are_one(self, source: str, destination: str, asks: int, answers: int) -> None:
        wire = Wire().send(icmp(source, destination, asks, 0, b"x" * 56))
        row = wire.send(icmp(destination, source, answers, 0, b"x" * 56)).row()
        assert (row.protocol, row.state, row.history) == ("icmp", "OTH", "")
        assert ends(row) == (source, asks, destination, answers)
        assert (row.orig_packets, row.resp_packets, row.orig_bytes, row.resp_bytes) == (1, 1, 56, 56)

    def test_an_error_goes_one_way_and_has_its_code_for_a_port(self) -> None:
        row = Wire().send(icmp(SERVER, CLIENT, 3, 1, b"x" * 28)).row()
        assert ends(row) == (SERVER, 3, CLIENT, 1)

    def test_errors_of_two_codes_are_two(self) -> None:
        wire = Wire().send(icmp(SERVER, CLIENT, 3, 1)).send(icmp(SERVER, CLIENT, 3, 3))
        assert len(wire.rows()) == 2

    def test_an_error_and_one_back_are_two(self) -> None:
        wire = Wire().send(icmp(SERVER, CLIENT, 3, 3)).send(icmp(CLIENT, SERVER, 3, 3))
        assert len(wire.rows()) == 2

    def test_a_solicitation_and_its_answer(self) -> None:
        wire = Wire().send(icmp(CLIENT6, "ff02::1:ff00:80", 135, 0, b"x" * 20))
        (asked,) = wire.rows()
        assert ends(asked) == (CLIENT6, 135, "ff02::1:ff00:80", 136)

    def test_a_minute_of_silence_ends_it(self) -> None:
        packet = icmp(CLIENT, SERVER, 8)
        assert len(Wire().send(packet).wait(61).send(packet).rows()) == 2

    def test_one_that_was_cut_is_not_counted(self) -> None:
        packet = icmp(CLIENT, SERVER, 8, 0, b"x" * 100)
        row = Wire().send(packet[:60], length=len(packet)).row()
        assert (row.orig_packets, row.resp_packets) == (0, 0)


class TestOthers:
    def test_another_transport_is_one_connection_a_pair(self) -> None:
        wire = Wire().send(ip(CLIENT, SERVER, 132, b"sctp")).send(ip(SERVER, CLIENT, 132, b"sctp"))
        row = wire.row()
        assert (row.protocol, row.ip_protocol, row.state) == ("unknown_transport", 132, "OTH")
        assert (ends(row), row.orig_packets, row.resp_packets) == ((CLIENT, 0, SERVER, 0), 1, 1)

    def test_two_transports_are_two(self) -> None:
        assert len(Wire().send(ip(CLIENT, SERVER, 132, b"x")).send(ip(CLIENT, SERVER, 89, b"x")).rows()) == 2

    @pytest.mark.parametrize(
        "packet",
        [
            ip(CLIENT, "224.0.0.22", 2, b"igmp" * 2),
            ipv6(CLIENT6, SERVER6, 59, b""),
            ipv6(CLIENT6, SERVER6, 50, b"\0" * 16),
            ipv6(CLIENT6, SERVER6, 135, bytes((59, 1)) + bytes(14)),
            b"",
            b"\x45",
            b"\x70" + bytes(40),
            ethernet(b"\0" * 46, 0x0806),
        ],
    )
    def test_what_is_no_connection(self, packet: bytes) -> None:
        assert Wire().send(packet).rows() == []

    def test_arp_is_passed_over(self) -> None:
        assert Wire().send(ethernet(bytes(46), 0x0806), link=1).rows() == []


class TestHeaders:
    def test_options_of_ipv6_are_walked_over(self) -> None:
        segment = udp(CLIENT6, 5000, SERVER6, 6000, b"x")[40:]
        hop, destination = bytes((60, 0)) + bytes((1, 4)) + bytes(4), bytes((17, 0)) + bytes((1, 4)) + bytes(4)
        assert Wire().send(ipv6(CLIENT6, SERVER6, 0, hop + destination + segment)).row().protocol == "udp"

    def test_authentication_is_walked_over_in_ipv6_only(self) -> None:
        segment = udp(CLIENT6, 5000, SERVER6, 6000, b"x")[40:]
        header = bytes((17, 2)) + bytes(14)
        assert Wire().send(ipv6(CLIENT6, SERVER6, 51, header + segment)).row().protocol == "udp"
        assert Wire().send(ipv4(CLIENT, SERVER, 51, header + segment)).row().protocol == "unknown_transport"

    def test_the_last_stop_of_a_source_route_is_the_destination(self) -> None:
        segment = udp(CLIENT6, 5000, SERVER6, 6000, b"x")[40:]
        route = bytes((17, 2, 0, 1)) + bytes(4) + ipv6(SERVER6, SERVER6, 0, b"")[8:24]
        assert Wire().send(ipv6(CLIENT6, "2001:db8:2::1", 43, route + segment)).row().resp_address == SERVER6

    def test_a_home_address_is_the_source(self) -> None:
        segment = udp(CLIENT6, 5000, SERVER6, 6000, b"x")[40:]
        option = bytes((17, 2, 1, 2, 0, 0, 201, 16)) + ipv6(CLIENT6, CLIENT6, 0, b"")[8:24]
        assert Wire().send(ipv6("2001:db8:2::1", SERVER6, 60, option + segment)).row().orig_address == CLIENT6

    def test_padding_is_no_payload(self) -> None:
        packet = tcp(CLIENT, 40_000, SERVER, 80, "A", 1, 1)
        assert Wire().send(ethernet(packet + bytes(6)), link=1).row().history == "A"

    def test_a_header_that_promises_more_than_there_was_is_none(self) -> None:
        packet = bytearray(udp(CLIENT, 5000, SERVER, 6000, b"x"))
        assert Wire().send(bytes(packet[:-1])).rows() == []

    def test_what_the_capture_cut_off_was_there(self) -> None:
        packet = tcp(CLIENT, 40_000, SERVER, 80, "PA", 1, 1, b"x" * 1000)
        later = tcp(CLIENT, 40_000, SERVER, 80, "PA", 1001, 1, b"x" * 1000)
        row = Wire().send(packet[:60], length=len(packet)).send(later[:60], length=len(later)).row()
        assert (row.orig_packets, row.orig_bytes, row.history) == (2, 2000, "D")

    @pytest.mark.parametrize("header", [0x40, 0xF0])
    def test_a_wrong_length_of_the_tcp_header_leaves_a_row_without_packets(self, header: int) -> None:
        packet = bytearray(tcp(CLIENT, 40_000, SERVER, 80, "S", 1))
        packet[32] = header
        assert Wire().send(bytes(packet)).told() == [("OTH", "", 0, 0)]

    def test_a_transport_header_that_is_cut_is_none(self) -> None:
        for protocol, size in ((6, 19), (17, 7), (1, 7)):
            assert Wire().send(ipv4(CLIENT, SERVER, protocol, bytes(size))).rows() == []


class TestChecksums:
    def test_a_packet_with_a_wrong_one_does_not_count(self) -> None:
        wire = (
            Wire().send(udp(CLIENT, 5000, SERVER, 6000, b"one")).send(damaged(udp(CLIENT, 5000, SERVER, 6000, b"two")))
        )
        assert wire.told() == [("S0", "DC", 1, 0)]

    def test_nor_one_of_icmp(self) -> None:
        wire = Wire().send(icmp(CLIENT, SERVER, 8, 0, b"one")).send(damaged(icmp(CLIENT, SERVER, 8, 0, b"two")))
        assert wire.told() == [("OTH", "", 1, 0)]

    def test_with_a_wrong_header_checksum_there_is_no_datagram(self) -> None:
        good, bad = udp(CLIENT, 5000, SERVER, 6000, b"x"), bytearray(udp(CLIENT, 5001, SERVER, 6000, b"x"))
        bad[8] = 63
        assert len(Wire().send(good).send(bytes(bad)).rows()) == 1

    @pytest.mark.parametrize("left", ["zero", "pseudo header"])
    def test_one_that_was_left_to_the_network_card_is_right(self, left: str) -> None:
        segment = bytearray(tcp_segment(CLIENT, 40_000, SERVER, 80, "S", 1))
        addresses = bytes((192, 0, 2, 10, 198, 51, 100, 80))
        total = sum(struct.unpack("!4H", addresses)) + 6 + len(segment)
        segment[16:18] = (0 if left == "zero" else (total & 0xFFFF) + (total >> 16)).to_bytes(2)
        good = Wire().send(ipv4(CLIENT, SERVER, 6, bytes(segment)))
        assert good.told() == [("S0", "S", 1, 0)]

    def test_one_of_many_wrong_ones_of_an_address_says_nothing(self) -> None:
        wire = Wire()
        for number in range(5):
            wire.send(damaged(udp(CLIENT, 5000, SERVER, 6000, bytes((number, 0)))))
            wire.send(udp(SERVER, 6000, CLIENT, 5000, bytes((number, 0))))
        assert wire.told() == [("SF", "Dd", 5, 5)]

    def test_nor_does_one_of_a_merged_segment(self) -> None:
        wire = Wire().handshake().s("PA", 1, 1, b"x")
        wire.send(damaged(tcp(SERVER, 80, CLIENT, 40_000, "PA", 5002, 1001, b"y" * 2800)))
        assert wire.told() == [("S1", "ShAd", 2, 3)]

    def test_vxlan_must_be_dropped_when_its_checksum_is_there_and_wrong(self) -> None:
        inner = bytes((8, 0, 0, 0, 0, 0, 1, 0)) + ethernet(udp(CLIENT, 5000, SERVER, 6000, b"x"))
        segment = struct.pack("!HHHH", 50_000, 4789, 8 + len(inner), 0x1234) + inner
        assert Wire().send(ipv4(CLIENT, SERVER, UDP, segment)).told() == [("OTH", "C", 0, 0)]
        segment = segment[:6] + b"\0\0" + inner
        assert len(Wire().send(ipv4(CLIENT, SERVER, UDP, segment)).rows()) == 2

    def test_a_cut_packet_cannot_be_checked(self) -> None:
        packet = damaged(udp(CLIENT, 5000, SERVER, 6000, b"x" * 100))
        assert Wire().send(packet[:60], length=len(packet)).told() == [("S0", "D", 1, 0)]


class TestFragments:
    def pieces(self, size: int = 8) -> list[bytes]:
        segment = udp(CLIENT, 5000, SERVER, 6000, b"0123456789" * 4)[20:]
        found = []
        for offset in range(0, len(segment), size):
            more = 0x2000 if offset + size < len(segment) else 0
            part = segment[offset : offset + size]
            found.append(ipv4(CLIENT, SERVER, UDP, part, identification=9, flags=more | offset // 8))
        return found

    def told(self, pieces: list[bytes]) -> list[tuple[str, str, int, int]]:
        wire = Wire()
        for piece in pieces:
            wire.send(piece)
        return wire.told()

    @pytest.mark.parametrize("size", [8, 16, 40])
    def test_a_datagram_in_pieces_counts_once(self, size: int) -> None:
        assert self.told(self.pieces(size)) == [("S0", "D", 1, 0)]

    def test_in_any_order_and_more_than_once(self) -> None:
        pieces = self.pieces()
        assert self.told(pieces[::-1]) == [("S0", "D", 1, 0)]
        assert self.told([pieces[2], *pieces]) == [("S0", "D", 1, 0)]

    def test_not_while_a_piece_is_missing(self) -> None:
        for missing in range(6):
            assert self.told([piece for number, piece in enumerate(self.pieces()) if number != missing]) == []

    def test_of_two_pieces_for_one_place_the_first_stays(self) -> None:
        pieces = self.pieces(16)
        forged = ipv4(CLIENT, SERVER, UDP, b"X" * 16, identification=9, flags=0x2000 | 2)
        whole = udp(CLIENT, 5000, SERVER, 6000, b"x")
        assert self.told([whole, whole, pieces[0], pieces[1], forged, pieces[2]]) == [("S0", "D", 3, 0)]
        assert self.told([whole, whole, pieces[0], forged, pieces[1], pieces[2]]) == [("S0", "DC", 2, 0)]

    def test_pieces_of_two_datagrams_do_not_mix(self) -> None:
        first, second = self.pieces(40)
        other = bytearray(second)
        other[4:6] = b"\0\x08"
        other[10:12] = b"\0\0"
        assert self.told([first, bytes(other)]) == []

    def test_after_five_minutes_it_is_too_late(self) -> None:
        first, second = self.pieces(40)
        assert Wire().send(first).wait(301).send(second).rows() == []

    def test_of_a_first_piece_that_was_cut_the_ports_are_known(self) -> None:
        first = self.pieces(40)[0]
        assert Wire().send(first[:30], length=len(first)).told() == [("S0", "D", 1, 0)]

    def test_ipv6(self) -> None:
        segment = udp(CLIENT6, 5000, SERVER6, 6000, b"x" * 40)[40:]
        wire = Wire()
        for offset, part in ((0, segment[:24]), (24, segment[24:])):
            header = struct.pack("!BBHI", UDP, 0, offset | (offset == 0), 77)
            wire.send(ipv6(CLIENT6, SERVER6, 44, header + part))
        row = wire.row()
        assert (row.protocol, row.orig_packets) == ("udp", 1)

    def test_an_ipv6_fragment_that_is_the_whole(self) -> None:
        segment = udp(CLIENT6, 5000, SERVER6, 6000, b"x")[40:]
        packet = ipv6(CLIENT6, SERVER6, 44, struct.pack("!BBHI", UDP, 0, 0, 77) + segment)
        assert Wire().send(packet).told() == [("S0", "D", 1, 0)]


def test_addresses_as_text() -> None:
    wire = Wire().send(udp("::ffff:192.0.2.1", 5000, "::192.0.2.2", 6000, b"x"))
    assert (wire.row().orig_address, wire.row().resp_address) == ("192.0.2.1", "::192.0.2.2")


def test_rows_stand_in_order_of_their_beginning() -> None:
    wire = Wire().send(udp(OTHER, 1, SERVER, 6000, b"x")).handshake().wait(100).send(udp(CLIENT, 2, SERVER, 6000, b"x"))
    assert [row.orig_address for row in wire.rows()] == [OTHER, CLIENT, CLIENT]


def test_as_json_it_has_zeek_s_names() -> None:
    row = Wire().handshake().talk().row().to_json()
    assert row == {
        "ts": 1_700_000_000.001, "proto": "tcp", "ip_proto": 6,
        "id.orig_h": CLIENT, "id.orig_p": 40_000, "id.resp_h": SERVER, "id.resp_p": 80,
        "conn_state": "S1", "history": "ShADd", "duration": 0.005,
        "orig_pkts": 4, "resp_pkts": 2, "orig_bytes": 10, "resp_bytes": 20, "missed_bytes": 0,
    }  # fmt: skip
