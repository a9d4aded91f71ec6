"""Neighbour entries: how many a lab may need, and what a person is told."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from emulator.lab.resolved import ResolvedLab
from emulator.reach import capacity


def lab_of(resolved: Callable[..., ResolvedLab], count: int) -> ResolvedLab:
    names = [f"h{number}" for number in range(count)]
    nodes = {**{name: {} for name in names}, "sw": {"kind": "switch"}}
    return resolved({"name": "many", "nodes": nodes, "links": [[name, "sw"] for name in names]})


@pytest.mark.parametrize(("hosts", "warned"), [(32, False), (33, True)])
def test_warning_begins_where_the_room_ends(
    resolved: Callable[..., ResolvedLab], monkeypatch: pytest.MonkeyPatch, hosts: int, warned: bool
) -> None:
    monkeypatch.setattr(capacity, "room", lambda version: 1024)
    lab = lab_of(resolved, hosts)
    assert capacity.needed(lab, 4) == hosts * (hosts - 1)
    assert capacity.needed(lab, 6) == 0
    monkeypatch.setattr(capacity, "backlog", lambda: None)
    told = "".join(capacity.warnings(lab))
    assert bool(told) == warned
    if told:
        assert "need 1,056 neighbour entries" in told
        assert "room for 1,024" in told
    assert capacity.hosts_that_fit(1024) == 32


def test_nothing_is_said_where_nothing_is_known(
    resolved: Callable[..., ResolvedLab], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(capacity, "backlog", lambda: None)
    monkeypatch.setattr(capacity, "room", lambda version: None)
    assert capacity.warnings(lab_of(resolved, 40)) == []


@pytest.mark.parametrize(("limit", "warned"), [(39, False), (38, True), (None, False)])
def test_a_frame_to_all_needs_room_on_a_processor(
    resolved: Callable[..., ResolvedLab], monkeypatch: pytest.MonkeyPatch, limit: int | None, warned: bool
) -> None:
    monkeypatch.setattr(capacity, "room", lambda version: None)
    monkeypatch.setattr(capacity, "backlog", lambda: limit)
    told = "".join(capacity.warnings(lab_of(resolved, 40)))
    assert ("goes to 39 hosts of many at once; this machine keeps 38" in told) == warned == bool(told)
    assert ("sudo sysctl net.core.netdev_max_backlog=78" in told) == warned


def test_both_are_told(resolved: Callable[..., ResolvedLab], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capacity, "room", lambda version: 1024)
    monkeypatch.setattr(capacity, "backlog", lambda: 10)
    entries, frames = capacity.warnings(lab_of(resolved, 40))
    assert "neighbour entries" in entries and "frame to all" in frames
