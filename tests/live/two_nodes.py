"""A lab of two nodes, which a test may give binds and programs."""

from __future__ import annotations

import os
from pathlib import Path

from tests.conftest import Person

LAB = """
name: {name}
nodes:
  a: {{binds: [{binds}], programs: {{{programs}}}}}
  b: {{}}
links: [[a, b]]
"""


def lab_file(person: Person, name: str, *, binds: str = "", programs: str = "") -> Path:
    """A lab file of two nodes."""
    folder = person.home / f"{name}-lab"
    folder.mkdir(exist_ok=True)
    file = folder / "lab.yml"
    file.write_text(LAB.format(name=name, binds=binds, programs=programs))
    give(person, folder, file)
    return file


def give(person: Person, *places: Path) -> None:
    """Make files and folders those of the person, also where the tests run as root."""
    if os.geteuid() == 0:
        for place in places:
            os.chown(place, person.uid, person.uid)


def folder_of(person: Person, name: str) -> Path:
    """A new folder of the person, in the person's home."""
    folder = person.home / name
    folder.mkdir()
    give(person, folder)
    return folder
