"""A pairs test as text and as JSON."""

from __future__ import annotations

import json

from emulator.report import json as json_report
from emulator.report import pairs, text
from emulator.verify.matrix import Matrix, result
from emulator.verify.verdict import Report


def report(matrix: Matrix) -> Report:
    return Report(matrix.lab, (result(matrix),), matrix.seconds, matrix=matrix)


SMALL = Matrix("lab", ("pc", "tv", "web"), (b"-10", b"1-1", b"0--"), (b"-11", b"1-0", b"01-"), 0.25)


def test_text() -> None:
    assert text.render(report(SMALL)) == (
        "network\n"
        "  FAIL     pairs  2 of 4 pairs of 3 hosts answered\n"
        "\n"
        "  pc   \\ + X\n"
        "  tv   + \\ !\n"
        "  web  . - \\\n"
        "\n"
        "  + answered   X lost   . no answer, and none is promised   ! answered, though that is not promised   "
        "- not asked: no address of one IP version\n"
        "\n"
        "  nobody reaches web, and it reaches nobody (2 pairs)\n"
        "\n"
        "  1 pair answered though the lab file does not promise it\n"
        "\n"
        "0 passed, 1 failed, 0 unknown in 0.2 s\n"
    )


def test_large_ones_are_told_in_words() -> None:
    count = 120
    rows = [bytearray(b"1" * count) for _ in range(count)]
    promised = [bytearray(b"1" * count) for _ in range(count)]
    for place in range(count):
        promised[place][place] = rows[place][place] = ord("-")
        if place != 6:
            rows[place][6] = rows[6][place] = ord("0")
    made = Matrix(
        "lab", tuple(f"h{n + 1}" for n in range(count)), tuple(map(bytes, rows)), tuple(map(bytes, promised)), 1
    )
    assert pairs.render(made) == "  nobody reaches h7, and it reaches nobody (238 pairs)\n\n"


def test_json() -> None:
    data = json.loads(json_report.render(report(SMALL)))
    assert data["nodes"] == ["pc", "tv", "web"]
    assert data["reachable"] == ["-10", "1-1", "0--"]
    assert data["promised"] == ["-11", "1-0", "01-"]
    assert (data["pairs"], data["lost"], data["unpromised"], data["seconds"]) == (4, 2, 1, 0.25)
    assert (data["pass"], data["fail"], data["unknown"]) == (0, 1, 0)
    assert json_report.from_dict(data).results == report(SMALL).results
