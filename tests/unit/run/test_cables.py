"""Which end of a cable is switched off when it is pulled."""

from __future__ import annotations

import pytest

from emulator.lab.document import parse
from emulator.lab.load import build
from emulator.lab.resolve import resolve
from emulator.lab.resolved import ResolvedLab
from emulator.run.cables import end_to_switch

TEXT = """
name: l
nodes:
  pc: {interfaces: {eth0: 192.0.2.1/24}}
  s1: {kind: switch}
  s2: {kind: switch}
  a: {interfaces: {eth0: 198.51.100.1/24}}
  b: {interfaces: {eth0: 198.51.100.2/24}}
links: [["s2:s1", "s1:s2"], ["pc:eth0", "s1:pc"], ["a:eth0", "b:eth0"]]
"""


@pytest.fixture(scope="module")
def lab() -> ResolvedLab:
    return resolve(build(parse(TEXT.encode(), "l.yml")))


@pytest.mark.parametrize(
    ("named", "end"),
    [
        ("pc:eth0", "s1:pc"),
        ("s1:pc", "s1:pc"),
        ("s1:s2", "s2:s1"),
        ("s2:s1", "s2:s1"),
        ("a:eth0", "a:eth0"),
        ("b:eth0", "b:eth0"),
    ],
)
def test_end_that_is_switched_off(lab: ResolvedLab, named: str, end: str) -> None:
    assert end_to_switch(lab, named).place == end
    assert end_to_switch(lab, end).place == end  # a fault that is noted is the one that is healed
