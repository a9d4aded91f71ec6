"""The states of a TCP connection, its octets and its history: a test a rule, and beside it what it is not about."""

from __future__ import annotations

import pytest

from emulator.flows.connection import Row, is_power_of_ten
from emulator.flows.endpoint import Endpoint, Stream, after

from .wire import CLIENT, CLIENT6, SERVER, SERVER6, Wire, damaged, tcp


def ends(row: Row) -> tuple[str, int, str, int]:
    return row.orig_address, row.orig_port, row.resp_address, row.resp_port


class TestStates:
    def test_s0_is_a_syn_without_an_answer(self) -> None:
        wire = Wire().c("S", 0).c("S", 0)
        assert wire.told() == [("S0", "S", 2, 0)]

    def test_s1_is_established_and_open(self) -> None:
        wire = Wire().handshake().talk()
        assert wire.told() == [("S1", "ShADd", 4, 2)]
        row = wire.row()
        assert (row.orig_bytes, row.resp_bytes) == (10, 20)
        assert ends(row) == (CLIENT, 40_000, SERVER, 80)

    def test_sf_is_closed_by_both(self) -> None:
        wire = Wire().handshake().talk().c("FA", 11, 21).s("FA", 21, 12).c("A", 12, 22)
        row = wire.row()
        assert (row.state, row.history, row.orig_packets, row.resp_packets) == ("SF", "ShADdFf", 6, 3)
        assert (row.orig_bytes, row.resp_bytes) == (10, 20)

    def test_the_last_ack_is_not_part_of_the_duration(self) -> None:
        closing = Wire().handshake().c("FA", 1, 1).s("FA", 1, 2)
        row = closing.wait(2).c("A", 2, 2).row()
        assert row.duration_ns == 4_000_000

    def test_s2_is_closed_by_the_originator_only(self) -> None:
        assert Wire().handshake().c("FA", 1, 1).s("A", 1, 2).told() == [("S2", "ShAFa", 3, 2)]

    def test_s3_is_closed_by_the_responder_only(self) -> None:
        assert Wire().handshake().s("FA", 1, 1).c("A", 1, 2).told() == [("S3", "ShAf", 3, 2)]

    def test_rej_is_an_rst_to_a_syn(self) -> None:
        assert Wire().c("S", 0).s("RA", 0, 1).told() == [("REJ", "Sr", 1, 1)]

    def test_rej_is_both_resetting_without_a_word(self) -> None:
        assert Wire().handshake().c("R", 1).s("RA", 1, 1).told() == [("REJ", "ShARr", 3, 2)]

    def test_but_not_after_data(self) -> None:
        assert Wire().handshake().talk().c("R", 11).s("RA", 21, 11).told()[0][0] == "RSTR"

    def test_rsto_is_reset_by_the_originator(self) -> None:
        assert Wire().handshake().talk().c("RA", 11, 21).told() == [("RSTO", "ShADdR", 5, 2)]

    def test_rstr_is_reset_by_the_responder(self) -> None:
        assert Wire().handshake().talk().s("RA", 21, 11).told() == [("RSTR", "ShADdr", 4, 3)]

    def test_rstos0_is_a_syn_and_an_rst(self) -> None:
        assert Wire().c("S", 0).c("R", 1).told() == [("RSTOS0", "SR", 2, 0)]

    def test_but_not_when_more_was_said_between(self) -> None:
        assert Wire().c("S", 0).c("A", 1, 1).c("R", 1).told() == [("OTH", "SAR", 3, 0)]

    def test_rstrh_is_a_syn_ack_and_an_rst_of_a_side_that_was_not_asked(self) -> None:
        assert Wire(sport=80).s("SA", 0, 1).s("R", 1).told() == [("RSTRH", "^hr", 0, 2)]

    def test_sh_is_a_syn_and_a_fin(self) -> None:
        assert Wire().c("S", 0).c("F", 1).told() == [("SH", "SF", 2, 0)]

    def test_shr_is_a_syn_ack_and_a_fin(self) -> None:
        assert Wire().s("SA", 0, 1).s("FA", 1, 1).told() == [("SHR", "^hf", 0, 2)]

    def test_oth_has_no_beginning(self) -> None:
        assert Wire().c("PA", 1, 1, b"x").s("A", 1, 2).told() == [("OTH", "Da", 1, 1)]

    def test_an_rst_out_of_nowhere(self) -> None:
        assert Wire().c("R", 1).told() == [("OTH", "R", 1, 0)]
        assert Wire().s("R", 1).told() == [("RSTRH", "^r", 0, 1)]

    def test_an_rst_after_the_own_fin_is_a_reset(self) -> None:
        assert Wire().handshake().c("FA", 1, 1).c("R", 2).told() == [("RSTO", "ShAFR", 4, 1)]

    def test_an_rst_after_both_fins_changes_nothing(self) -> None:
        assert Wire().handshake().c("FA", 1, 1).s("FA", 1, 2).c("R", 2).told() == [("SF", "ShAFfR", 4, 2)]

    def test_fin_then_rst_then_the_other_fin_is_an_ordinary_end(self) -> None:
        assert Wire().handshake().c("FA", 1, 1).c("R", 2).s("FA", 1, 2).told() == [("SF", "ShAFRf", 4, 2)]

    def test_simultaneous_close(self) -> None:
        wire = Wire().handshake().c("FA", 1, 1).s("FA", 1, 1).c("A", 2, 2).s("A", 2, 2)
        assert wire.told() == [("SF", "ShAFfa", 4, 3)]

    def test_ipv6(self) -> None:
        row = Wire(client=CLIENT6, server=SERVER6).handshake().talk().row()
        assert (row.state, row.orig_address, row.resp_address) == ("S1", CLIENT6, SERVER6)


class TestWhoBegan:
    def test_a_missing_syn_is_made_up_for_by_syn_ack_and_ack(self) -> None:
        assert Wire().s("SA", 0, 1).c("A", 1, 1).told() == [("S1", "^hA", 1, 1)]

    def test_without_a_handshake_the_server_port_tells(self) -> None:
        row = Wire().s("PA", 1, 1, b"x").row()
        assert (ends(row), row.history) == ((CLIENT, 40_000, SERVER, 80), "^d")

    def test_without_a_server_port_the_first_packet_tells(self) -> None:
        row = Wire(sport=41_000).s("PA", 1, 1, b"x").row()
        assert (ends(row), row.history) == ((SERVER, 41_000, CLIENT, 40_000), "D")

    def test_of_two_server_ports_the_lower_one_is_the_server(self) -> None:
        assert Wire(cport=8080, sport=80).s("PA", 1, 1, b"x").row().history == "^d"
        assert Wire(cport=22, sport=80).s("PA", 1, 1, b"x").row().history == "D"

    def test_a_syn_is_always_the_originator_s(self) -> None:
        assert Wire(cport=80, sport=41_000).c("S", 0).row().history == "S"

    def test_syn_ack_before_syn(self) -> None:
        wire = Wire(sport=41_000).s("SA", 0, 1).c("S", 0).c("A", 1, 1)
        (row,) = wire.rows()
        assert ends(row) == (CLIENT, 40_000, SERVER, 41_000)
        assert (row.state, row.history) == ("S1", "Hs^A")

    def test_a_syn_behind_data_begins_the_connection_after_all(self) -> None:
        assert Wire().c("PA", 1, 1, b"x").c("S", 0).told() == [("S0", "DS", 2, 0)]
        assert Wire().c("PA", 1, 1, b"x").c("SA", 0, 1).told() == [("OTH", "DH", 2, 0)]

    def test_a_syn_from_the_other_side_is_another_connection(self) -> None:
        told = Wire(sport=41_000).c("S", 0).s("S", 0).told()
        assert told == [("S0", "S", 1, 0), ("S0", "S", 1, 0)]


class TestOctets:
    def test_octets_that_were_not_captured_count_by_sequence_numbers(self) -> None:
        row = Wire().handshake().s("A", 1, 1001).row()
        assert (row.orig_bytes, row.resp_bytes, row.missed_bytes, row.history) == (1000, 0, 1000, "ShAaG")

    def test_a_retransmission_counts_as_a_packet_and_not_as_octets(self) -> None:
        row = Wire().handshake().c("PA", 1, 1, b"q" * 10).c("PA", 1, 1, b"q" * 10).row()
        assert (row.orig_packets, row.orig_bytes, row.history) == (4, 10, "ShADT")

    def test_segments_out_of_order_are_no_gap(self) -> None:
        wire = Wire().handshake().c("A", 11, 1, b"b" * 10).c("A", 1, 1, b"a" * 10).s("A", 1, 21)
        row = wire.row()
        assert (row.orig_bytes, row.missed_bytes, row.history) == (20, 0, "ShADTa")

    def test_sequence_numbers_go_round(self) -> None:
        first = 0xFFFFFFF0
        wire = Wire()
        for flags, seq, ack, data in (
            ("S", first, 0, b""),
            ("A", first + 1, 1, b"x" * 100),
            ("FA", first + 101, 1, b""),
        ):
            wire.send(tcp(CLIENT, 40_000, SERVER, 80, flags, seq, ack, data))
        assert wire.row().orig_bytes == 100

    def test_an_rst_far_away_does_not_count(self) -> None:
        row = Wire().handshake().talk().s("R", 1 << 30).row()
        assert (row.state, row.resp_bytes) == ("RSTR", 20)

    def test_a_single_packet_has_no_duration_and_so_no_octets(self) -> None:
        row = Wire().c("PA", 1, 1, b"x").row()
        assert (row.duration_ns, row.orig_bytes, row.resp_bytes) == (None, None, None)

    def test_data_in_a_syn(self) -> None:
        row = Wire().c("S", 0, 0, b"x" * 5).s("SA", 0, 6).row()
        assert (row.state, row.orig_bytes) == ("S1", 5)

    def test_a_discovered_half_open_connection_sent_nothing(self) -> None:
        row = Wire().c("S", 0).s("A", 1, 500).c("R", 500).row()
        assert (row.state, row.history, row.orig_bytes) == ("RSTOS0", "SaR", 0)
        assert Wire().c("S", 0).c("R", 500).row().orig_bytes == 499

    def test_acknowledgements_say_nothing_of_a_side_that_was_never_seen(self) -> None:
        row = Wire().c("A", 1, 1).c("A", 1, 101).row()
        assert (row.resp_packets, row.resp_bytes) == (0, 0)

    def test_but_they_do_once_it_was(self) -> None:
        row = Wire().c("A", 1, 1).s("A", 1, 1).c("A", 1, 101).row()
        assert (row.resp_packets, row.resp_bytes) == (1, 100)

    def test_an_acknowledgement_of_zero_is_a_mistake(self) -> None:
        wire = Wire()
        for flags, ack in (("S", 0), ("A", 0xF0000001), ("A", 0)):
            wire.send(tcp(CLIENT, 40_000, SERVER, 80, flags, 1000 + (flags == "A"), ack))
        assert wire.row().resp_bytes == 0

    def test_data_in_a_syn_is_no_gap_though_noted_as_if_sent_again(self) -> None:
        row = Wire().c("S", 0, 0, b"x" * 5).s("SA", 0, 6).c("PA", 6, 1, b"y" * 5).s("A", 1, 11).row()
        assert (row.orig_bytes, row.missed_bytes, row.history) == (10, 0, "SThDa")

    @pytest.mark.parametrize(("ack", "missed"), [(51, 50), (102, 100)])
    def test_a_gap_before_a_fin_is_without_the_fin(self, ack: int, missed: int) -> None:
        assert Wire().handshake().c("FA", 101, 1).s("A", 1, ack).row().missed_bytes == missed


class TestHistory:
    def test_zero_windows_are_noted_at_the_first_tenth_and_hundredth(self) -> None:
        wire = Wire().handshake()
        for _ in range(10):
            packet = bytearray(tcp(SERVER, 80, CLIENT, 40_000, "A", 5001, 1001))
            packet[34:36] = packet[36:38] = b"\0\0"  # the window, and a checksum left to the card
            wire.send(bytes(packet))
        assert wire.row().history == "ShAaww"

    def test_powers_of_ten(self) -> None:
        assert [n for n in range(1001) if is_power_of_ten(n)] == [1, 10, 100, 1000]

    @pytest.mark.parametrize(("flags", "letter"), [("FR", "I"), ("SF", "Q"), ("SR", "Q")])
    def test_flags_that_do_not_go_together(self, flags: str, letter: str) -> None:
        assert Wire().c(flags, 0).row().history == letter

    def test_another_fin_with_another_number(self) -> None:
        assert Wire().handshake().c("FA", 1, 1).c("FA", 1, 1).row().history == "ShAF"
        assert Wire().handshake().c("FA", 1, 1).c("FA", 9, 1).row().history == "ShAFF"
        assert Wire().handshake().c("FA", 1, 1, b"x" * 10).c("FA", 11, 1).row().history == "ShAF"

    def test_a_wrong_checksum_is_noted_and_the_packet_is_not_counted(self) -> None:
        wire = Wire().handshake().talk()
        wire.send(damaged(tcp(CLIENT, 40_000, SERVER, 80, "PA", 1011, 5021, b"new")))
        assert wire.told() == [("S1", "ShADdC", 4, 2)]


class TestTime:
    def test_after_five_seconds_without_an_answer_a_syn_is_another_attempt(self) -> None:
        assert len(Wire().c("S", 0).wait(4).c("S", 0).rows()) == 1
        assert len(Wire().c("S", 0).wait(6).c("S", 0).rows()) == 2

    def test_a_packet_long_after_the_end_begins_a_row(self) -> None:
        closed = ("SF", "ShAFf", 3, 2)
        assert Wire().handshake().c("FA", 1, 1).s("FA", 1, 2).wait(4).c("A", 2, 2).told() == [("SF", "ShAFf", 4, 2)]
        assert Wire().handshake().c("FA", 1, 1).s("FA", 1, 2).wait(6).c("A", 2, 2).told() == [
            closed,
            ("OTH", "A", 1, 0),
        ]

    def test_a_reset_connection_is_over_after_five_seconds(self) -> None:
        wire = Wire().handshake().s("RA", 1, 1).wait(6).c("A", 1, 1)
        assert wire.told() == [("RSTR", "ShAr", 2, 2), ("OTH", "A", 1, 0)]

    def test_an_established_connection_may_be_silent_for_five_minutes(self) -> None:
        assert len(Wire().handshake().wait(299).c("A", 1, 1).rows()) == 1
        assert len(Wire().handshake().wait(301).c("A", 1, 1).rows()) == 2

    def test_one_of_people_for_an_hour(self) -> None:
        assert len(Wire(sport=22).handshake().wait(3000).c("A", 1, 1).rows()) == 1
        assert len(Wire(sport=22).handshake().wait(3700).c("A", 1, 1).rows()) == 2

    def test_a_half_open_connection_ends_after_a_fin(self) -> None:
        wire = Wire().c("FA", 1, 1).wait(6).s("PA", 1, 2, b"late")
        assert wire.told() == [("SH", "F", 1, 0), ("OTH", "^d", 0, 1)]

    def test_one_side_closed_waits_for_the_other(self) -> None:
        wire = Wire().handshake().c("FA", 1, 1).s("A", 1, 2).wait(100).s("FA", 1, 2)
        assert wire.told() == [("SF", "ShAFaf", 3, 3)]

    def test_a_new_syn_after_the_end_is_a_new_connection_at_once(self) -> None:
        wire = Wire().handshake().c("FA", 1, 1).s("FA", 1, 2).c("A", 2, 2)
        assert [state for state, *_ in wire.c("S", 777).told()] == ["SF", "S0"]

    def test_a_new_syn_with_another_number_is_one_too(self) -> None:
        assert [state for state, *_ in Wire().handshake().c("S", 777).told()] == ["S1", "S0"]

    def test_the_same_syn_again_is_not(self) -> None:
        assert [state for state, *_ in Wire().handshake().c("S", 0).told()] == ["S1"]

    def test_time_that_runs_back_ends_nothing(self) -> None:
        wire = Wire().handshake()
        wire.now -= 400 * 1_000_000_000
        assert len(wire.c("A", 1, 1).rows()) == 1


class TestEndpoint:
    def test_numbers_count_from_the_syn_whatever_turn_they_are_in(self) -> None:
        end = Endpoint()
        end.begin(0xFFFFFF00, 0xFFFFFF01)
        assert end.relative(0xFFFFFF10, 0xFFFFFF01, 0) == (0x10, False)
        assert end.relative(0x10, 0xFFFFFFF0, 0) == (0x110, False)
        assert end.relative(0xFFFFFFF0, 0x10, 1) == (0xF0, False)
        assert end.relative(0x20, 0x10, 1) == (0x120, False)
        assert end.relative(0x20, 0x10, 2) == (0x100000120, False)
        assert end.relative(0xFFFFFEFF, 0xFFFFFF01, 0) == (-1, True)


class TestStream:
    def test_pieces_in_any_order(self) -> None:
        stream = Stream()
        stream.add(11, 21)
        assert (stream.contiguous, stream.held) == (1, [(11, 21)])
        stream.add(1, 11)
        assert (stream.contiguous, stream.held) == (21, [(1, 21)])
        stream.add(5, 8)
        assert stream.held == [(1, 21)]

    def test_what_is_acknowledged_is_not_waited_for(self) -> None:
        stream = Stream()
        stream.add(11, 21)
        assert stream.give_up(16) == [(1, 11)]
        stream.drop(16)
        assert (stream.contiguous, stream.acknowledged, stream.held) == (21, 16, [(16, 21)])

    def test_after_goes_round(self) -> None:
        assert after(5, 0xFFFFFFFF) == 6
        assert after(0xFFFFFFFF, 5) == -6
