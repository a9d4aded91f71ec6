"""`wirelab explain --pcap`: as text, as JSON, of a damaged file and of none."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest

from emulator.cli import main

SYN = bytes.fromhex(
    "02000000000b 02000000000a 0800"
    "45000028 00010000 40060000 c000020a c6336450"
    "9c400050 000003e8 00000000 50020400 00000000"
)
"""A TCP SYN in Ethernet; its checksums are zero, as if left to the network card."""


def pcap(folder: Path, *frames: bytes, order: str = "<", magic: int = 0xA1B2C3D4, cut: int = 0) -> str:
    octets = struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, 262_144, 1)
    for number, frame in enumerate(frames):
        octets += struct.pack(order + "IIII", 1_700_000_000, number, len(frame), len(frame)) + frame
    path = folder / "x.pcap"
    path.write_bytes(octets[: len(octets) - cut])
    return str(path)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("magic", [0xA1B2C3D4, 0xA1B23C4D])
def test_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str], order: str, magic: int) -> None:
    file = pcap(tmp_path, SYN, SYN, order=order, magic=magic)
    assert main(["explain", "--pcap", file, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["file"], answer["packets"], answer["truncated"]) == (file, 2, None)
    (row,) = answer["connections"]
    assert (row["conn_state"], row["id.orig_h"], row["id.orig_p"], row["orig_pkts"]) == ("S0", "192.0.2.10", 40_000, 2)


def test_as_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "--pcap", pcap(tmp_path, SYN)]) == 0
    heading, line, total = capsys.readouterr().out.splitlines()[-3:]
    assert " ".join(heading.split()) == "time protocol originator responder state packets octets duration history"
    assert " ".join(line.split()) == "0.000000 tcp 192.0.2.10:40000 198.51.100.80:80 S0 1 / 0 - - S"
    assert total == "1 connection in 1 packet"


def test_a_file_that_ends_early_is_read_up_to_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = pcap(tmp_path, SYN, SYN, cut=3)
    assert main(["explain", "--pcap", file]) == 0
    out, err = capsys.readouterr()
    assert "1 connection in 1 packet" in out
    assert "read up to octet" in err
    main(["explain", "--pcap", file, "--json"])
    assert "ends within a packet" in json.loads(capsys.readouterr().out)["truncated"]


def test_an_empty_capture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "--pcap", pcap(tmp_path)]) == 0
    assert capsys.readouterr().out.endswith("\n0 connections in 0 packets\n")


@pytest.mark.parametrize("octets", [b"", b"#!/bin/sh\n" * 10, bytes(100)])
def test_what_is_no_capture(tmp_path: Path, capsys: pytest.CaptureFixture[str], octets: bytes) -> None:
    (tmp_path / "x").write_bytes(octets)
    assert main(["explain", "--pcap", str(tmp_path / "x")]) == 2
    err = capsys.readouterr().err
    assert err.startswith("wirelab: ") and "hint:" in err


@pytest.mark.parametrize("name", ["missing.pcap", "."])
def test_a_file_that_cannot_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    assert main(["explain", "--pcap", str(tmp_path / name)]) == 2
    assert "cannot read" in capsys.readouterr().err


def test_without_a_file_it_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain"]) == 2
    assert "--pcap" in capsys.readouterr().err
