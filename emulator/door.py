"""Where the command `wirelab` begins.

`wirelab exec LAB NODE -- COMMAND…` is what scripts and people call most, and building the whole command line takes
longer than running the command: this form goes straight to its work. Everything else is read by `emulator.cli`.
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
    if not is_plain_exec(words) or "_ARGCOMPLETE" in os.environ or _has_deputy(words[1]):
        from emulator.cli import main as with_all_words

        return with_all_words()
    gc.disable()  # too little is made here to be worth looking for
    from emulator.commands.inside import run_in_node
    from emulator.guard import guarded

    status = guarded(lambda: run_in_node(words[1], words[2], words[4:], {}))
    sys.stderr.flush()
    os._exit(status)  # nothing is open any more, and taking the interpreter apart takes time


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
