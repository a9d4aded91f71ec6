"""What is told when the machine refuses an operation: its reason, and what to do about it."""

from __future__ import annotations

import errno
import resource
from pathlib import Path

from emulator.errors import CommandFailed, MachineError, WirelabError
from emulator.plan import ops


def refusal(operation: ops.Operation, error: OSError) -> WirelabError:
    """The kernel's reason, and what to do when it is one of this machine's limits."""
    text = f"cannot {operation.describe()}: {error.strerror or error}"
    if error.errno in (errno.EMFILE, errno.ENFILE):
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        return MachineError(text, hint=f"a node takes one open file, and {most:,} are allowed: ulimit -Hn")
    if isinstance(operation, ops.CreateNode) and error.errno == errno.ENOSPC:
        from emulator.run.machine import namespace_hint

        return MachineError(text, hint=namespace_hint(errno.ENOSPC))
    return CommandFailed(text)


def start_error(what: str, program: str, error: OSError) -> WirelabError:
    """Why a program does not start."""
    if error.errno == errno.ENOENT:
        from emulator.run.tools import package_hint

        return MachineError(f"cannot {what}: there is no program {program}", hint=package_hint([program]))
    hint = "make room for the run directory: df -h $XDG_RUNTIME_DIR" if error.errno == errno.ENOSPC else None
    return CommandFailed(f"cannot {what}: {error.strerror or error}", hint=hint)


def ending(status: int) -> str:
    """How a process ended; `status` as of `subprocess`."""
    return f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"


def last_words(log: Path, lines: int = 8) -> str | None:
    """What a service said last; None when it cannot be read."""
    try:
        text = log.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    last = [line for line in text.splitlines() if line.strip()][-lines:]
    return "it said:\n    " + "\n    ".join(last) if last else "it said nothing"
