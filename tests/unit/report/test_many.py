"""The report of several labs."""

from __future__ import annotations

import json
from dataclasses import replace
from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as st

from emulator.report import json as json_report
from emulator.report import junit, many
from emulator.report.many import Outcome
from emulator.verify.verdict import Report, Result, Verdict

GOOD = Report("arp", (Result("arp", "data-link", Verdict.PASS, "asked and answered", (1, 2)),), 2.04)
BAD = Report(
    "nat",
    (
        Result("ttl", "network", Verdict.PASS, "64 → 63"),
        Result("snat", "network", Verdict.FAIL, "the source is \x1b[31mprivate", (7,)),
        Result("dns-walk", "application", Verdict.UNKNOWN, "the capture has a gap"),
    ),
    3.96,
)
GONE = Outcome("dns", error="this machine lacks nsd (package nsd)\n  hint: apt-get install nsd", status=3, seconds=0.4)
ALL = [Outcome("arp", GOOD), Outcome("nat", BAD), GONE]


def test_all_passed() -> None:
    outcomes = [Outcome("arp", GOOD), Outcome("hub-and-switch", GOOD)]
    assert many.render(outcomes, 2.5) == (
        "LAB             PASSED  FAILED  UNKNOWN  SECONDS\n"
        "arp                  1       0        0      2.0\n"
        "hub-and-switch       1       0        0      2.0\n"
        "\n"
        "2 labs: 2 passed in 2.5 s\n"
    )


def test_what_failed_is_below_the_table() -> None:
    assert many.render(ALL, 5.01) == (
        "LAB  PASSED  FAILED  UNKNOWN  SECONDS\n"
        "arp       1       0        0      2.0\n"
        "nat       1       1        1      4.0\n"
        "dns       -       -        -      0.4  not verified\n"
        "\n"
        "nat\n"
        "  FAIL     snat      the source is \\x1b[31mprivate\n"
        "  UNKNOWN  dns-walk  the capture has a gap\n"
        "\n"
        "dns\n"
        "  this machine lacks nsd (package nsd)\n"
        "  hint: apt-get install nsd\n"
        "\n"
        "3 labs: 2 passed, 1 failed, 1 unknown, 1 lab not verified in 5.0 s\n"
    )


def test_colour_only_of_what_is_wrong() -> None:
    assert "\x1b" not in many.render(ALL, 1)
    painted = many.render(ALL, 1, colour=True).splitlines()
    assert [line.startswith("\x1b[31;1m") for line in painted[:4]] == [False, False, True, True]
    assert "\x1b" not in many.render([Outcome("arp", GOOD)], 1, colour=True)


@given(st.text(max_size=40), st.text(max_size=300), st.integers(0, 200))
def test_no_control_character_reaches_the_terminal(name: str, error: str, width: int) -> None:
    report = replace(BAD, lab=name)
    for line in many.render([Outcome(name, error=error), Outcome(name, report)], 1, width=width).split("\n"):
        assert line.isprintable()


def test_exit_status() -> None:
    good, bad = Outcome("arp", GOOD), Outcome("nat", BAD)
    broken = Outcome("x", error="cannot run", status=1)
    wrong = Outcome("y", error="y.yml:1:1: empty", status=2)
    assert many.exit_status([good, good]) == 0
    assert many.exit_status([good, bad]) == 1
    assert many.exit_status([good, broken]) == 1
    assert many.exit_status([good, wrong]) == 1
    assert many.exit_status([good, bad, GONE]) == 3
    assert many.exit_status([]) == 1
    assert many.exit_status([Outcome("empty", Report("empty", (), 0.0))]) == 1


def test_data() -> None:
    data = json.loads(json.dumps(many.as_data(ALL, 5.0104)))
    assert data["total"] == {"labs": 3, "pass": 2, "fail": 1, "unknown": 1, "errors": 1, "seconds": 5.01}
    assert data["labs"][0] == json_report.as_dict(GOOD)
    assert data["labs"][2] == {
        "lab": "dns", "checks": [], "pass": 0, "fail": 0, "unknown": 0, "seconds": 0.4,
        "error": GONE.error, "status": 3,
    }  # fmt: skip


def test_a_report_survives_json() -> None:
    for report in (GOOD, BAD, replace(GOOD, capture="x.pcapng")):
        assert json_report.from_dict(json.loads(json_report.render(report))) == report


def test_junit_has_a_suite_for_each_lab() -> None:
    root = ElementTree.fromstring(junit.render_many(ALL, 5.01).encode())
    assert {key: root.get(key) for key in ("tests", "failures", "errors", "time")} == {
        "tests": "5", "failures": "1", "errors": "2", "time": "5.010",
    }  # fmt: skip
    assert [suite.get("name") for suite in root] == ["arp", "nat", "dns"]
    assert [len(suite.findall("testcase")) for suite in root] == [1, 3, 1]
    error = root[2].find("testcase/error")
    assert error is not None
    assert error.text == GONE.error
    alone = ElementTree.fromstring(junit.render(BAD).encode())
    assert ElementTree.tostring(alone[0]).split() == ElementTree.tostring(root[1]).split()
