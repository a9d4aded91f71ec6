"""Reports as text, JSON and JUnit XML."""

from __future__ import annotations

import json
from dataclasses import replace
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.report import json as json_report
from emulator.report import junit, text
from emulator.verify.verdict import Report, Result, Verdict

GOOD = Report(
    "nat",
    (
        Result("links-carry", "physical", Verdict.PASS, "12 links carried frames both ways", (1, 2)),
        Result("ttl", "network", Verdict.PASS, "TTL 64 → 63 (home) → 62 (isp), 3 packets", (3,)),
        Result("snat", "network", Verdict.PASS, "192.168.1.100:40000 became 203.0.113.2:40000"),
    ),
    3.21,
)
BAD = replace(
    GOOD,
    results=(
        *GOOD.results,
        Result("page", "application", Verdict.FAIL, "expected <a> & saw \x1b[31mred\x00", (7, 9)),
        Result("dns-walk", "application", Verdict.UNKNOWN, 'scene "walk" never ran'),
    ),
    capture="run/nat.pcapng",
)


def test_text() -> None:
    assert text.render(GOOD) == (
        "physical\n"
        "  PASS     links-carry  12 links carried frames both ways\n"
        "\n"
        "network\n"
        "  PASS     ttl          TTL 64 → 63 (home) → 62 (isp), 3 packets\n"
        "  PASS     snat         192.168.1.100:40000 became 203.0.113.2:40000\n"
        "\n"
        "3 passed in 3.2 s\n"
    )


def test_text_of_failures() -> None:
    lines = text.render(BAD).splitlines()
    assert "  FAIL     page         expected <a> & saw \\x1b[31mred\\x00" in lines
    assert '  UNKNOWN  dns-walk     scene "walk" never ran' in lines
    assert lines[-2:] == ["packets: run/nat.pcapng", "3 passed, 1 failed, 1 unknown in 3.2 s"]


def test_no_checks_are_no_success() -> None:
    assert text.render(replace(GOOD, results=())) == "0 passed, 0 failed, 0 unknown in 3.2 s\n"


def test_long_reasons_hang_under_their_column() -> None:
    lines = text.render(GOOD, width=52).splitlines()
    assert "  PASS     ttl          TTL 64 → 63 (home) → 62" in lines
    assert lines[lines.index("network") + 2] == "                        (isp), 3 packets"


@given(st.integers(0, 200), st.text(max_size=300))
def test_lines_keep_to_the_width_and_hold_no_control_character(width: int, reason: str) -> None:
    report = replace(GOOD, results=(Result("ttl", "network", Verdict.FAIL, reason),))
    for line in text.render(report, width=width).splitlines():
        assert line.isprintable()
        assert len(line) <= max(width, 16 + 24, len("0 passed, 1 failed, 0 unknown in 3.2 s"))


def test_colour_only_when_asked() -> None:
    assert "\x1b" not in text.render(BAD)
    painted = text.render(BAD, colour=True)
    assert "\x1b[32mPASS\x1b[0m     ttl  " in painted
    assert "\x1b[31;1mFAIL\x1b[0m" in painted
    assert painted.count("\x1b") == 2 * len(BAD.results)


def test_json() -> None:
    data = json.loads(json_report.render(BAD))
    assert list(data) == ["lab", "checks", "pass", "fail", "unknown", "seconds", "capture"]
    assert (data["lab"], data["pass"], data["fail"], data["unknown"], data["seconds"]) == ("nat", 3, 1, 1, 3.21)
    assert data["checks"][3] == {
        "name": "page",
        "layer": "application",
        "verdict": "fail",
        "reason": "expected <a> & saw \x1b[31mred\x00",
        "frames": [7, 9],
    }
    assert "capture" not in json.loads(json_report.render(GOOD))


def test_junit() -> None:
    (suite,) = ElementTree.fromstring(junit.render(BAD).encode())
    assert (suite.get("name"), suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("nat", "5", "1", "1")
    cases = {case.get("name"): case for case in suite.iter("testcase")}
    assert cases["ttl"].get("classname") == "nat.network"
    assert cases["ttl"].find("failure") is None
    failure, error = cases["page"].find("failure"), cases["dns-walk"].find("error")
    assert failure is not None
    assert failure.get("message") == "expected <a> & saw �[31mred�"
    assert "frames: 7, 9" in str(cases["page"].findtext("system-out"))
    assert error is not None
    assert error.text == 'scene "walk" never ran'


@given(st.text(), st.sampled_from(Verdict))
def test_junit_is_well_formed_whatever_a_reason_holds(reason: str, verdict: Verdict) -> None:
    report = replace(GOOD, lab=reason or "x", results=(Result("ttl", "network", verdict, reason),), capture=reason)
    ElementTree.fromstring(junit.render(report).encode())


@pytest.mark.parametrize("reason", ["", "\ud800", "\x85\u2028"])
def test_odd_reasons_can_be_written(reason: str) -> None:
    report = replace(GOOD, results=(Result("ttl", "network", Verdict.FAIL, reason),))
    for rendered in (text.render(report), json_report.render(report), junit.render(report)):
        assert rendered.encode()
