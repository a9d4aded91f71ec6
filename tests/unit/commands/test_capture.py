"""The words of `wirelab capture`: places, sizes, what is said at the end."""

from __future__ import annotations

from typing import Any

import pytest

from emulator.capture.recorder import Figures
from emulator.cli import parser
from emulator.commands.capture import Counter, places, summary
from emulator.errors import UsageError


def node(**peers: str | None) -> dict[str, Any]:
    return {"interfaces": {name.replace("_", "-"): {"peer": peer} for name, peer in peers.items()}}


NODES = {
    "pc1": node(eth0="sw:pc1", lo=None),
    "sw": node(pc1="pc1:eth0", r1="r1:lan", r1_2="r1:lan2"),
    "r1": node(lan="sw:r1", lan2="sw:r1-2", wan="a--b:eth0"),
    "a--b": node(eth0="r1:wan"),
}


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ([], []),
        (["pc1", "r1:wan", "pc1"], ["pc1", "r1:wan"]),
        (["pc1--sw"], ["pc1:eth0", "sw:pc1"]),
        (["sw:pc1--pc1:eth0"], ["sw:pc1", "pc1:eth0"]),
        (["sw--r1"], ["sw:r1", "r1:lan", "sw:r1-2", "r1:lan2"]),
        (["sw--r1:lan2"], ["sw:r1-2", "r1:lan2"]),
        (["pc1--sw", "pc1:eth0"], ["pc1:eth0", "sw:pc1"]),
        (["a--b"], ["a--b"]),
        (["a--b:eth0"], ["a--b:eth0"]),
        (["a--b--r1"], ["a--b:eth0", "r1:wan"]),
        (["r1:wan--a--b:eth0"], ["r1:wan", "a--b:eth0"]),
        (["elsewhere", "pc1:tun0"], ["elsewhere", "pc1:tun0"]),
    ],
)
def test_places(words: list[str], found: list[str]) -> None:
    assert places(words, NODES, "lab") == found


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("pc1--r1", "did you mean"),
        ("pc1:eth1--sw", "did you mean pc1:eth0--sw:pc1?"),
        ("--sw", "its links: a--b:eth0--r1:wan, "),
        ("x--y", "its links: "),
        ("pc1:lo--sw", "did you mean pc1:eth0--sw:pc1?"),
    ],
)
def test_a_link_that_is_none(word: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        places([word], NODES, "home")
    assert caught.value.message == f"the lab home has no link {word}"
    assert hint in (caught.value.hint or "")


def test_limits() -> None:
    options = parser().parse_args(
        ["capture", "nat", "pc1", "-w", "x", "--max-size", "10M", "--duration", "1.5", "--count", "7", "-f", "icmp"]
    )
    assert (options.max_size, options.duration, options.count, options.filter) == (10_000_000, 1.5, 7, "icmp")
    assert parser().parse_args(["capture", "nat", "--max-size", "500k"]).max_size == 500_000


@pytest.mark.parametrize(
    "words",
    [
        ["--max-size", "10X"], ["--max-size", "0"], ["--max-size", "-1"], ["--max-size", "k"], ["--duration", "0"],
        ["--duration", "nan"], ["--duration", "inf"], ["--duration", "soon"], ["--count", "0"], ["--count", "1.5"],
        ["--files", "0"], ["-w", "x", "--wireshark"],
    ],
)  # fmt: skip
def test_wrong_limits(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parser().parse_args(["capture", "nat", *words])
    assert caught.value.code == 2
    assert "hint: wirelab capture --help" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("figures", "first"),
    [
        (Figures(1, 0, 1), "1 packet, none lost"),
        (Figures(1200, 0, 3), "1,200 packets, none lost"),
        (Figures(4, 0, 3, why="count"), "so many packets were asked for: 4 packets, none lost"),
        (Figures(0, 0, 3, why="lab"), "the lab has ended: 0 packets, none lost"),
    ],
)
def test_nothing_lost(figures: Figures, first: str) -> None:
    assert summary(figures) == [first]


def test_loss_is_told_with_its_places() -> None:
    lost = {f"pc{number}:eth0": number for number in range(1, 8)}
    lines = summary(Figures(1000, 28, 9, lost))
    assert lines[0] == "1,000 packets, 28 of them lost: the recorder was too slow"
    assert lines[1] == "  lost at: pc7:eth0 7, pc6:eth0 6, pc5:eth0 5, pc4:eth0 4, pc3:eth0 3, …"
    assert "-f FILTER" in lines[2]
    assert "\x1b" not in "".join(summary(Figures(1, 1, 1, {"a:\x1b[2J": 1})))


def test_the_counter_stays_in_its_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    counter = Counter()
    counter.show({"packets": 1234, "octets": 56789, "dropped": 0, "seconds": 2.4})
    assert capsys.readouterr().err == "\r\x1b[K1,234 packets, 56,789 octets, none lost, 2 s"
    counter.show({"packets": 10**12, "octets": 10**15, "dropped": 3 * 10**9, "seconds": 1e6})
    shown = capsys.readouterr().err
    assert "\n" not in shown
    assert len(shown) == len("\r\x1b[K") + 59
    counter.wipe()
    assert capsys.readouterr().err == "\r\x1b[K"
