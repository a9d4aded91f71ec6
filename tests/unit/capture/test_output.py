"""Where captures go: files that are full, rings of files, pipes that nobody reads."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from emulator.capture.outlet import Files, Outlet
from emulator.capture.output import Description, Output, Row
from emulator.capture.pcapng import EPB_HEAD, epb_tail, read
from emulator.errors import CommandFailed, UsageError

NOW = 1_800_000_000_000_000_000


def packets(count: int, octets: int = 100, start: int = 0) -> list[tuple[int, bytes]]:
    """Packets of the interface 0, one a nanosecond; the first octets tell which is which."""
    total, tail = epb_tail(octets, "in")
    made = []
    for number in range(start, start + count):
        time_ns = NOW + number
        head = EPB_HEAD.pack(6, total, 0, time_ns >> 32, time_ns & 0xFFFFFFFF, octets, octets)
        made.append((time_ns, head + number.to_bytes(4) + bytes(octets - 4) + tail))
    return made


def figures() -> Sequence[Row]:
    return [Row(0, 7, 2)]


@pytest.fixture
def fd(tmp_path: Path) -> Iterator[int]:
    opened = os.open(tmp_path / "first.pcapng", os.O_WRONLY | os.O_CREAT)
    yield opened
    os.close(opened)


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reading, writing = os.pipe()
    yield reading, writing
    for descriptor in (reading, writing):
        os.close(descriptor)


def begun(output: Output) -> Output:
    output.interface(Description("pc1:eth0", "02:57:4c:00:01:00", 1))
    output.names({"10.0.0.1": "pc1"})
    output.flush()
    return output


def numbers(file: Path) -> list[int]:
    return [int.from_bytes(packet.data[:4]) for packet in read(file).packets]


def test_one_file_without_limit(fd: int, tmp_path: Path) -> None:
    output = begun(Output(fd, snaplen=0))
    assert output.packets(packets(50), figures, NOW) == 50
    output.statistics(figures(), NOW)
    capture = read(tmp_path / "first.pcapng")
    assert len(capture.packets) == 50
    assert (capture.interfaces[0].received, capture.interfaces[0].dropped) == (7, 2)
    assert output.octets == (tmp_path / "first.pcapng").stat().st_size


def test_a_full_file_takes_no_more_and_stays_within_its_size(fd: int, tmp_path: Path) -> None:
    output = begun(Output(fd, snaplen=0, limit_octets=8_000))
    taken = output.packets(packets(100), figures, NOW)
    assert 0 < taken < 100
    assert output.packets(packets(10), figures, NOW) == 0
    output.statistics(figures(), NOW)
    size = (tmp_path / "first.pcapng").stat().st_size
    assert 8_000 - 150 < size <= 8_000
    assert numbers(tmp_path / "first.pcapng") == list(range(taken))


def test_a_ring_of_files_that_each_stand_alone(tmp_path: Path) -> None:
    files = Files(str(tmp_path / "ring.pcapng"), 3)
    first = files.open_next()
    output = begun(Output(first, snaplen=0, limit_octets=8_000, open_next=files.open_next))
    assert output.packets(packets(300), figures, NOW) == 300
    output.statistics(figures(), NOW)
    output.close()
    os.close(first)
    made = sorted(tmp_path.iterdir())
    assert len(made) == 3
    assert [name.name.split("_")[1] for name in made] == ["00004", "00005", "00006"]
    kept = [number for file in made for number in numbers(file)]
    assert kept == list(range(kept[0], 300))
    for file in made:
        capture = read(file)
        assert file.stat().st_size <= 8_000
        assert [interface.name for interface in capture.interfaces] == ["pc1:eth0"]
        assert capture.interfaces[0].received == 7
        assert capture.names == {"10.0.0.1": "pc1"}
        assert capture.truncated is None


def test_a_packet_larger_than_a_file_is_written_all_the_same(tmp_path: Path) -> None:
    files = Files(str(tmp_path / "ring.pcapng"), 9)
    first = files.open_next()
    output = begun(Output(first, snaplen=0, limit_octets=8_000, open_next=files.open_next))
    large = packets(3, 60_000)
    assert output.packets(large, figures, NOW) == 3
    output.close()
    os.close(first)
    assert sum(len(read(file).packets) for file in tmp_path.iterdir()) == 3


def test_a_size_without_room_for_packets_is_refused(fd: int) -> None:
    output = Output(fd, snaplen=0, limit_octets=4_000)
    output.interface(Description("pc1:eth0", "", 1))
    with pytest.raises(UsageError, match="a file of 4,000 octets has no room for the packets of 1 interface"):
        output.flush()


def test_a_full_disk_is_told() -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        with pytest.raises(CommandFailed, match="No space left on device"):
            begun(Output(full, snaplen=0))
    finally:
        os.close(full)


def test_a_file_of_the_ring_that_cannot_be_made_is_told(fd: int, tmp_path: Path) -> None:
    files = Files(str(tmp_path / "absent" / "ring.pcapng"), 2)
    output = begun(Output(fd, snaplen=0, limit_octets=8_000, open_next=files.open_next))
    with pytest.raises(CommandFailed, match="cannot write the capture: No such file"):
        output.packets(packets(200), figures, NOW)


def test_a_pipe_that_nobody_reads_holds_nothing_up(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    outlet = Outlet(writing)
    data = os.urandom(300_000)
    assert outlet.write(memoryview(data)) == len(data)
    assert 0 < outlet.waiting < len(data)
    assert not outlet.finish(0.05)
    read_back = b""
    while outlet.waiting or len(read_back) < len(data):
        read_back += os.read(reading, 1 << 16)
        outlet.pump()
    assert read_back == data
    assert outlet.finish(0.05)


def test_a_pipe_without_a_reader() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        with pytest.raises(BrokenPipeError):
            begun(Output(writing, snaplen=0))
    finally:
        os.close(writing)
