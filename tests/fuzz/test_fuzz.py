"""The short form: a few thousand inputs, made by hypothesis. `make fuzz` is the long one, guided by coverage.

What was found once is in `found/PART/`, a file an input.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from emulator.errors import UsageError

from . import captures, labs, promises, words

PARTS = {"labs": labs, "captures": captures, "words": words}
KNOWN = [
    pytest.param(module, path, id=f"{part}-{path.name}")
    for part, module in PARTS.items()
    for path in sorted(Path(__file__).parent.glob(f"found/{part}/*"))
]


def _examples(number: int) -> settings:
    return settings(
        max_examples=number, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )


@st.composite
def _inputs(draw: st.DrawFn, module: ModuleType) -> bytes:
    """A seed, changed a few times."""
    octets: bytes = draw(st.sampled_from(module.seeds()))
    for number in draw(st.lists(st.integers(0, (1 << 32) - 1), min_size=1, max_size=4)):
        octets = module.mutate(octets, random.Random(number))
    return octets


@pytest.mark.parametrize("part", PARTS)
def test_every_seed_keeps_the_promises(part: str) -> None:
    outcomes = {PARTS[part].check(octets) for octets in PARTS[part].seeds()}
    assert outcomes >= {"labs": {"accepted", "refused"}, "captures": {"read"}, "words": {"status 0", "status 2"}}[part]


@pytest.mark.parametrize("text", labs.LARGE, ids=range(len(labs.LARGE)))
def test_large_labs(text: str) -> None:
    labs.check(text.encode())


@pytest.mark.parametrize(("module", "path"), KNOWN)
def test_what_was_found_once(module: ModuleType, path: Path) -> None:
    module.check(path.read_bytes())


@_examples(700)
@given(_inputs(labs))
def test_lab_files(octets: bytes) -> None:
    labs.check(octets)


@_examples(300)
@given(st.binary(max_size=200) | st.text(max_size=100).map(str.encode))
def test_lab_files_of_any_octets(octets: bytes) -> None:
    labs.check(octets)


@_examples(700)
@given(_inputs(captures))
def test_captures(octets: bytes) -> None:
    captures.check(octets)


@_examples(300)
@given(st.lists(st.tuples(st.sampled_from(captures.LINK_TYPES), st.binary(max_size=120)), min_size=1, max_size=8))
def test_captures_of_any_frames(frames: list[tuple[int, bytes]]) -> None:
    captures.check(captures.pcapng(frames))


@_examples(700)
@given(_inputs(words))
def test_command_lines(octets: bytes) -> None:
    words.check(octets)


@_examples(300)
@given(
    st.lists(st.sampled_from([*words.WORDS, "plan", "validate", "ps", "explain"]) | st.text(max_size=12), max_size=6)
)
def test_command_lines_of_any_words(line: list[str]) -> None:
    words.check(b"\0".join(word.encode("utf-8", "surrogateescape") for word in line))


# The promises themselves can be seen to be broken.


def _outside(*_: object, **__: object) -> None:
    Path("/etc/hostname").read_text(encoding="utf-8")
    raise UsageError("as if nothing had been done")


def _program(*_: object, **__: object) -> None:
    subprocess.run(["true"], check=False)
    raise UsageError("as if nothing had been done")


def _for_ever(*_: object, **__: object) -> None:
    while True:
        pass


def _waiting(*_: object, **__: object) -> None:
    signal.pause()


def _deep(*_: object, **__: object) -> None:
    _deep()


@pytest.mark.parametrize(
    ("deed", "said"),
    [(_outside, "read /etc"), (_program, "process"), (_for_ever, "took"), (_waiting, "took"), (_deep, "used up")],
)
def test_a_broken_promise_is_seen(deed: object, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(promises, "SECONDS", 1)
    if deed is _waiting:
        monkeypatch.setattr(promises, "SECONDS_WAITING", 1)
    monkeypatch.setattr(labs, "load", deed)
    with pytest.raises(promises.Broken, match=said):
        labs.check(labs.seeds()[0])
    assert signal.alarm(0) == 0


def test_an_error_that_is_none_for_a_person_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def fault(*_: object) -> int:
        raise IndexError("nobody expects it")

    monkeypatch.setattr(labs, "compile_plan", fault)
    with pytest.raises(IndexError):
        labs.check(labs.seeds()[0])
    monkeypatch.setattr("emulator.commands.files.labs", fault)
    with pytest.raises(promises.Broken, match="a fault"):
        words.check(b"labs")


@pytest.mark.parametrize("text", ["\x1b[2J", "\x9b31m", "\u202e", "\r", "\x07", "\0"])
def test_what_drives_a_terminal_is_seen(text: str) -> None:
    with pytest.raises(promises.Broken):
        promises.shown_safely(f"a name {text}")


def test_memory_is_bounded() -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\nfrom tests.fuzz import promises\npromises.limit_memory(1 << 26)\n"
        "try:\n    bytes(1 << 28)\nexcept MemoryError:\n    print('bounded')\n"
    )
    argv = [sys.executable, "-c", code, str(promises.ROOT)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": ""})
    assert done.stdout == "bounded\n", done.stderr
