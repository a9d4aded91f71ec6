"""Seen, never seen, in order."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError


@pytest.fixture
def pinged(wire: Any, build: Any) -> Any:
    """pc1 called home twice in scene `call`."""
    wire.scene("call")
    for number in (1, 2):
        ends = build.ADDRESS["pc1:eth0"], build.ADDRESS["home:lan"]
        wire.carry(build.Packet("icmp", *ends, icmp_seq=number), "pc1:eth0", "home:lan")
        wire.carry(build.Packet("icmp", *ends[::-1], icmp_seq=number, icmp_type=0), "home:lan", "pc1:eth0")
    wire.scene("later")
    return wire


def test_seen(pinged: Any) -> None:
    result = pinged.verdict("seen", filter="icmp.type == 8", at=["pc1:eth0", "home"])
    assert result.verdict == "pass"
    assert "frames 1 and 9 at pc1:eth0" in result.reason
    assert pinged.verdict("seen", filter="icmp.type == 8", at="pc1:eth0", count=2).verdict == "pass"


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"at": ["pc1:eth0", "web:eth0"]}, "at web:eth0; saw nothing there"),
        ({"at": "pc1:eth0", "count": 1}, "expected 1 frame that match"),
        ({"at": "pc1:eth0", "scene": "later"}, 'in scene "later"; saw nothing there'),
        ({"at": "pc1:eth0", "filter": "tcp"}, "saw 4 other frames, the last: ICMP echo reply"),
    ],
)
def test_not_seen_fails(pinged: Any, parameters: dict[str, Any], words: str) -> None:
    result = pinged.verdict("seen", **{"filter": "icmp.type == 8", **parameters})
    assert result.verdict == "fail"
    assert words in result.reason


def test_never_seen(pinged: Any) -> None:
    result = pinged.verdict("never-seen", filter="tcp", at=["pc1", "web"])
    assert result.verdict == "pass"
    assert result.reason == "never at pc1 and web among 4 frames; web saw none"


def test_seen_after_all_fails(pinged: Any) -> None:
    result = pinged.verdict("never-seen", filter="icmp.type == 0", at="home")
    assert result.verdict == "fail"
    assert "frame 5 at home:lan does (ICMP echo reply 192.168.1.1 → 192.168.1.100), 2 frames in all" in result.reason


@pytest.mark.parametrize("what", ["scene", "place", "frames", "lost", "cut"])
def test_never_seen_without_evidence_is_unknown(pinged: Any, what: str) -> None:
    parameters: dict[str, Any] = {"filter": "tcp", "at": ["pc1"]}
    if what == "lost":
        pinged.dropped["pc1:eth0"] = 1
    elif what == "cut":
        pinged.truncated = "the file ends in the middle of a packet"
    else:
        parameters |= {"scene": {"scene": "nothing"}, "place": {"at": "pc1:eth9"}, "frames": {"at": "web"}}[what]
    assert pinged.verdict("never-seen", **parameters).verdict == "unknown"


def test_in_order(pinged: Any) -> None:
    filters = ["icmp.type == 8", "icmp.type == 0", "icmp.seq == 2"]
    result = pinged.verdict("in-order", filters=filters, at="pc1:eth0")
    assert result.verdict == "pass"
    assert result.frames == (1, 8, 9)


def test_in_order_at_all_interfaces_of_a_node(pinged: Any) -> None:
    """The first ping comes into the switch at one port and leaves it at another."""
    filters = ["icmp.type == 8 && icmp.seq == 1"] * 2
    assert pinged.verdict("in-order", filters=filters, at="sw").verdict == "pass"
    result = pinged.verdict("in-order", filters=filters, at="sw:pc1")
    assert result.verdict == "fail"
    assert "after frame 2 at sw:pc1" in result.reason


def test_out_of_order_fails(pinged: Any) -> None:
    result = pinged.verdict("in-order", filters=["icmp.seq == 2", "icmp.seq == 1"], at="pc1:eth0")
    assert result.verdict == "fail"
    assert "expected a frame that matches icmp.seq == 1 after frame 9 at pc1:eth0" in result.reason


BOUNDS = {"filter": "icmp.type == 8", "at": ["pc1:eth0", "home:lan"]}


@pytest.mark.parametrize(
    "bounds", [{"at_least": 2}, {"at_most": 2}, {"at_least": 1, "at_most": 2}, {"at_least": 2, "at_most": 2}]
)
def test_seen_within_bounds(pinged: Any, bounds: dict[str, int]) -> None:
    assert pinged.verdict("seen", **BOUNDS, **bounds).verdict == "pass"


@pytest.mark.parametrize(
    ("bounds", "words"),
    [
        ({"at_least": 3}, "expected at least 3 frames that match icmp.type == 8 at pc1:eth0; saw 2: frames 1 and 9"),
        ({"at_most": 1}, "expected at most 1 frame that match icmp.type == 8 at pc1:eth0; saw 2: frames 1 and 9"),
        ({"at_most": 5, "filter": "tcp"}, "expected frames that match tcp"),
    ],
)
def test_seen_out_of_bounds_fails(pinged: Any, bounds: dict[str, Any], words: str) -> None:
    result = pinged.verdict("seen", **{**BOUNDS, **bounds})
    assert result.verdict == "fail"
    assert words in result.reason


def test_a_bound_above_needs_a_whole_record(pinged: Any) -> None:
    pinged.dropped["home:lan"] = 1
    assert pinged.verdict("seen", **BOUNDS, at_least=2).verdict == "pass"
    assert pinged.verdict("seen", **BOUNDS, at_most=2).verdict == "unknown"
    assert pinged.verdict("seen", **BOUNDS, count=2).verdict == "unknown"


@pytest.mark.parametrize(
    "bounds", [{"count": 2, "at_least": 1}, {"count": 2, "at_most": 2}, {"at_least": 3, "at_most": 2}]
)
def test_bounds_that_contradict_each_other_are_refused(pinged: Any, bounds: dict[str, int]) -> None:
    with pytest.raises(ValidationError, match="at-least"):
        pinged.verdict("seen", **BOUNDS, **bounds)
