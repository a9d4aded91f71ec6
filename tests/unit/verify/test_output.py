"""What commands printed, and how they ended."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

from emulator.lab.resolved import Scene, Step

PINGED = "PING 192.0.2.80\n\n--- statistics ---\n2 packets transmitted, 2 received\n"


@pytest.fixture
def pinged(wire: Any) -> Any:
    """Step `ping` printed two answers on pc1 and complained on pc2."""
    wire.printed("ping", "pc1", PINGED)
    wire.printed("ping", "pc2", "PING 192.0.2.80", stderr="ping: unreachable\n", status=1)
    wire.variables["run.number"] = "7"
    return wire


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        (
            {"matches": "2 received$"},
            '"curl" on pc1: printed "2 packets transmitted, 2 received", it ended with status 0',
        ),
        ({"status": 0}, "it ended with status 0"),
        ({"matches": ["^PING", "transmitted"], "lacks": "unreachable"}, 'nothing that matches "unreachable"'),
        ({"lacks": "unreachable"}, "it ended with status 0"),
        ({"on": "pc2", "matches": "^ping: unreachable$", "status": "nonzero"}, "it ended with status 1"),
        ({"on": "pc2", "status": 1}, "it ended with status 1"),
    ],
)
def test_output(pinged: Any, parameters: dict[str, Any], words: str) -> None:
    result = pinged.verdict("output", step="ping", **{"on": "pc1", **parameters})
    assert result.verdict == "pass", result.reason
    assert words in result.reason


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"matches": "^0 received"}, 'expected "curl" on pc1 to print a match of "^0 received"; it printed "PING'),
        ({"matches": ["2 received", "3 received"]}, 'a match of "3 received"'),
        ({"lacks": "receive"}, 'print no match of "receive"; it printed "2 packets transmitted, 2 received"'),
        ({"status": 1}, 'expected "curl" on pc1 to end with status 1; it ended with status 0'),
        ({"status": "nonzero"}, "to run and to fail with a status other than 0; it ended with status 0"),
        ({"on": "pc2", "status": 0}, 'it printed "PING 192.0.2.80\\nping: unreachable"'),
        ({"on": None, "status": 0}, "on pc2"),
        ({"on": None, "matches": "transmitted"}, "on pc2"),
    ],
)
def test_other_output_fails(pinged: Any, parameters: dict[str, Any], words: str) -> None:
    result = pinged.verdict("output", step="ping", **{"on": "pc1", **parameters})
    assert result.verdict == "fail"
    assert words in result.reason


def test_the_numbers_of_a_run_are_filled_in(pinged: Any) -> None:
    pinged.printed("count", "pc1", "run 7\n")
    assert pinged.verdict("output", step="count", matches="^run {run.number}$").verdict == "pass"
    assert pinged.verdict("output", step="count", lacks="^run {run.number}$").verdict == "fail"
    assert pinged.verdict("output", step="count", matches="{run.port}").verdict == "unknown"


@pytest.mark.parametrize("status", [None, -15, 126, 127])
@pytest.mark.parametrize("parameters", [{"status": 0}, {"status": "nonzero"}])
def test_a_command_that_was_killed_or_not_there_has_not_failed_by_itself(
    wire: Any, status: int | None, parameters: Any
) -> None:
    wire.printed("ping", "pc1", "", status=status)
    result = wire.verdict("output", step="ping", **parameters)
    assert result.verdict == "fail"
    assert "it printed nothing" in result.reason


@pytest.mark.parametrize(("status", "words"), [(None, "its time was over"), (127, "could not be started")])
def test_what_a_command_does_not_print_is_known_only_when_it_ran_to_its_end(
    wire: Any, status: int | None, words: str
) -> None:
    wire.printed("ping", "pc1", "", status=status)
    result = wire.verdict("output", step="ping", lacks="received")
    assert result.verdict == "fail"
    assert words in result.reason


def test_a_signal_can_be_what_is_expected(wire: Any) -> None:
    wire.printed("listen", "pc1", "hello\n", status=-15)
    assert wire.verdict("output", step="listen", matches="hello").verdict == "pass"
    assert wire.verdict("output", step="listen", status=-15, lacks="bye").verdict == "pass"


def test_a_step_that_never_ran_is_unknown(pinged: Any) -> None:
    assert pinged.verdict("output", step="other", status=0).verdict == "unknown"
    assert pinged.verdict("output", step="ping", on="web", status=0).verdict == "unknown"
    scene = Scene("one", "", (Step("ping", "run", ("pc1", "web"), ("ping",)),))
    pinged.lab = replace(pinged.lab, scenes=(scene,))
    result = pinged.verdict("output", step="ping", matches="PING")
    assert (result.verdict, result.reason) == ("unknown", 'step "ping" never ran on web')


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({}, "at least one of `status`, `matches` and `lacks`"),
        ({"matches": "("}, "not a regular expression"),
        ({"lacks": ["a", "[b"]}, "not a regular expression"),
        ({"matches": ".*"}, "matches any text"),
        ({"matches": ""}, "matches any text"),
        ({"status": "zero"}, "expected an exit status"),
        ({"status": True}, "expected an exit status"),
        ({"status": 256}, "expected an exit status"),
    ],
)
def test_a_check_that_says_nothing_is_refused(wire: Any, parameters: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        wire.verdict("output", step="ping", **parameters)
