"""What stands between a command and the user: every error becomes a line and an exit status, never a traceback."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from types import FrameType

from emulator.errors import EXIT_FAILED, EXIT_MACHINE, WirelabError, one_line, render

INTERRUPTED = 130
TERMINATED = 143


class Terminated(BaseException):
    """SIGTERM or SIGHUP asked this process to end; what it was doing is taken back on the way out."""


def _on_signal(number: int, _frame: FrameType | None) -> None:
    raise Terminated(number)


def guarded(work: Callable[[], int]) -> int:
    """Do `work`; returns its exit status, or that of the error that ended it, and never raises."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _on_signal)
    try:
        status = work()
        sys.stdout.flush()
        return status
    except WirelabError as error:
        print(render(error), file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        print("wirelab: interrupted", file=sys.stderr)
        return INTERRUPTED
    except Terminated:
        return TERMINATED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return EXIT_FAILED
    except OSError as error:
        where = f" {error.filename}" if error.filename else ""
        print(one_line(f"wirelab: {error.strerror or error}{where}"), file=sys.stderr)
        return EXIT_FAILED
    except MemoryError:
        print("wirelab: this machine has not enough memory for that", file=sys.stderr)
        return EXIT_MACHINE
    except Exception as error:
        if os.environ.get("WIRELAB_DEBUG"):
            raise
        print(one_line(f"wirelab: a fault of Wirelab itself: {type(error).__name__}: {error}"), file=sys.stderr)
        print("  hint: set WIRELAB_DEBUG=1 to see where", file=sys.stderr)
        return EXIT_FAILED
