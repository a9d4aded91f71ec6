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
    told = capacity.warning(lab)
    assert (told is not None) == warned
    if told:
        assert "need 1,056 neighbour entries" in told
        assert "room for 1,024" in told
    assert capacity.hosts_that_fit(1024) == 32


def test_nothing_is_said_where_nothing_is_known(
    resolved: Callable[..., ResolvedLab], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(capacity, "room", lambda version: None)
    assert capacity.warning(lab_of(resolved, 40)) is None
