"""Where the command `wirelab` begins.

`wirelab exec LAB NODE -- COMMAND…` is what scripts and people call most, and building the whole command line takes
longer than running the command: this form goes straight to its work. So does `wirelab up --topology KIND,N…`, with
`--name NAME` or without, which is as quick. Everything else is read by `emulator.cli`.
"""

from __future__ import annotations

import gc
import os
import sys

TYPE_CHECKING = False  # the module `typing` costs milliseconds
if TYPE_CHECKING:
    from collections.abc import Sequence


def main() -> int:
    """Run the command line; returns the exit status and never raises."""
    words = sys.argv[1:]
    gc.set_threshold(50_000)  # imports make much, and hardly anything in circles
    completing = "_ARGCOMPLETE" in os.environ
    if is_plain_exec(words) and not completing and not _has_deputy(words[1]):
        gc.disable()  # too little is made here to be worth looking for
        from emulator.commands.inside import run_in_node
        from emulator.guard import guarded

        status = guarded(lambda: run_in_node(words[1], words[2], words[4:], {}))
        sys.stderr.flush()
        os._exit(status)  # nothing is open any more, and taking the interpreter apart takes time
    if (asked := plain_up(words)) is not None and not completing:
        from emulator.commands.up import up_topology
        from emulator.guard import guarded

        return guarded(lambda: up_topology(*asked))
    from emulator.cli import main as with_all_words

    return with_all_words()


def _has_deputy(lab: str) -> bool:
    """Whether the running lab `lab` can only be entered by way of its deputy (`emulator.run.deputy`)."""
    from emulator.run import running

    try:
        return os.path.islink(os.path.join(running.base(), lab, "deputy"))
    except Exception:  # what is wrong is said by the command itself
        return False


def is_plain_exec(words: Sequence[str]) -> bool:
    """Whether `words` are `exec LAB NODE -- COMMAND…` with one node, by its name, and no option."""
    plain = len(words) > 4 and words[0] == "exec" and words[3] == "--" and not words[1].startswith("-")
    return plain and words[2].replace("-", "x").isalnum() and not words[2].startswith("-")


_PLAIN_UP = ["up", "--topology"]


def plain_up(words: Sequence[str]) -> tuple[str, str | None] | None:
    """The topology and the name of `up --topology KIND,N… [--name NAME]`; None where `words` are anything else. The
    numbers are written as in the name that the lab has without another one."""
    if len(words) not in (3, 5) or [*words[:2], *words[3:4]] not in (_PLAIN_UP, [*_PLAIN_UP, "--name"]):
        return None
    kind, *numbers = words[2].split(",")
    name = words[4] if len(words) == 5 else None
    if name is not None and name[:1] in ("", "-"):
        return None
    plain = kind.replace("-", "x").isalnum() and kind[0] != "-" and numbers and all(map(_is_plain_number, numbers))
    return (words[2], name) if plain else None


def _is_plain_number(word: str) -> bool:
    return word.isascii() and word.isdigit() and word[0] != "0"
