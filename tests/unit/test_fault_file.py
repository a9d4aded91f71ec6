"""The list of a lab's faults, and a daemon's account."""

from __future__ import annotations

from pathlib import Path

import pytest

from emulator.errors import CommandFailed
from emulator.run import service as accounts
from emulator.run.fault_file import FAULTS, Fault, Ledger, check_runs, read, states
from emulator.run.service import RESTARTS_MAX, Service


def test_the_list_is_what_was_added_and_not_removed(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    assert ledger.read() == ()
    frozen, cut = Fault("freeze", "a"), Fault("partition", groups=(("a", "b"), ("c",)))
    with ledger.held():
        for fault in (frozen, cut, frozen):
            ledger.add(fault)
    assert read(tmp_path) == (frozen, cut)
    assert cut.describe() == "partition: a, b | c"
    assert Fault("partition", groups=(("a",),)).describe() == "partition: a | the others"
    ledger.remove(frozen, Fault("kill", "b"))
    assert read(tmp_path) == (cut,)


@pytest.mark.parametrize("content", ["half", "7", '[{"kind": "kill"}]', "a folder"])
def test_a_list_that_cannot_be_read_is_not_taken_for_empty(tmp_path: Path, content: str) -> None:
    """It would be written anew, and nobody knew what to undo."""
    ledger = Ledger(tmp_path)
    if content == "a folder":
        (tmp_path / FAULTS).mkdir()
    else:
        (tmp_path / FAULTS).write_text(content, encoding="utf-8")
    for ask in (ledger.read, lambda: ledger.add(Fault("freeze", "a")), lambda: check_runs(tmp_path, "a")):
        with pytest.raises(CommandFailed, match=r"cannot read which faults the lab .* has: "):
            ask()
    assert content == "a folder" or (tmp_path / FAULTS).read_text(encoding="utf-8") == content


def test_nothing_starts_on_a_node_that_does_not_run(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    for fault in (Fault("freeze", "a"), Fault("kill", "b"), Fault("kill", "c:http"), Fault("unplug", "c:eth0")):
        ledger.add(fault)
    assert states(read(tmp_path)) == {"a": "frozen", "b": "off"}
    check_runs(tmp_path, "c")
    with pytest.raises(CommandFailed, match="a is frozen"):
        check_runs(tmp_path, "a")
    with pytest.raises(CommandFailed, match="b is off"):
        check_runs(tmp_path, "b")


def failing(restart: str) -> Service:
    return Service({"node": "a", "service": "s", "restart": restart}, 7)


def test_failures_in_a_row_wait_longer_and_end(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(accounts.time, "monotonic", lambda: now)
    service = failing("on-failure")
    waits = []
    for _ in range(RESTARTS_MAX):
        service.end(1)
        assert service.due is not None
        waits.append(round(service.due - now, 3))
        service.begin(8)
    assert waits == [0.1, 0.2, 0.4, 0.8, 1.6]
    service.end(-9)
    assert service.due is None
    service.begin(9)
    now += accounts.STEADY_S
    service.end(-9)  # it had recovered
    assert service.due == pytest.approx(now + 0.1)


def test_one_that_cannot_be_started_again_is_tried_again_as_often(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(accounts.time, "monotonic", lambda: now)
    service = failing("on-failure")
    service.end(1)
    waits = []
    while service.due is not None:
        waits.append(round(service.due - now, 3))
        service.put_off()
    assert waits == [0.1, 0.2, 0.4, 0.8, 1.6]


def test_success_and_services_without_it_are_left(monkeypatch: pytest.MonkeyPatch) -> None:
    done, dead = failing("on-failure"), failing("")
    done.end(0)
    dead.end(1)
    assert done.due is None and dead.due is None
    assert not done.as_json()["restarting"]
