"""`wirelab wireshark install` and `uninstall`: running labs in Wireshark's list of interfaces, without root."""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final, NamedTuple

from emulator.commands import wireshark_profile as profile
from emulator.errors import CommandFailed, MachineError
from emulator.run import tools

PROGRAM: Final = "wirelab"
"""The name of our extcap program in Wireshark's folder."""

MARK: Final = "# Wirelab's labs for Wireshark: made by `wirelab wireshark install`."
"""The first comment of what we put there; what has it not is not ours."""

_PERSONAL_SINCE: Final = (3, 0)
"""Wireshark's version from which on it reads extcap programs of the user's own."""

_TIMEOUT_S: Final = 30


class Folders(NamedTuple):
    """Where a Wireshark looks: for its configuration, and for extcap programs; `personal` is None when it reads none
    of the user's own."""

    configuration: Path
    personal: Path | None
    everyones: Path | None


def wireshark(options: argparse.Namespace) -> int:
    """Install or uninstall."""
    return install() if options.action == "install" else uninstall()


def folders() -> Folders:
    """Where the installed Wireshark (or tshark) looks.

    Raises:
        MachineError: there is none.
    """
    for program in ("wireshark", "tshark"):
        path = shutil.which(program)
        if path is None:
            continue
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            done = subprocess.run(
                [path, "-G", "folders"],
                capture_output=True,
                text=True,
                timeout=_TIMEOUT_S,
                check=False,
                errors="replace",
            )
            version = subprocess.run(
                [path, "--version"], capture_output=True, text=True, timeout=_TIMEOUT_S, check=False, errors="replace"
            )
            if found := read_folders(done.stdout, version.stdout):
                return found
    raise MachineError("there is no Wireshark here", hint=tools.package_hint(["wireshark"]))


def read_folders(listing: str, version: str) -> Folders | None:
    """The folders that `-G folders` and `--version` tell of; None when they do not.

    From 4.2 on the user's own extcap folder is in the list. Before, it is `extcap` in the configuration folder, and not
    in the list.
    """
    known = {
        name.strip().lower(): Path(value.strip())
        for name, colon, value in (line.partition(":") for line in listing.splitlines())
        if colon
    }
    configuration = known.get("personal configuration")
    if configuration is None:
        return None
    everyones = known.get("global extcap path") or known.get("extcap path")
    personal = known.get("personal extcap path")
    if personal is None and _version(version) >= _PERSONAL_SINCE:
        personal = configuration / "extcap"
    return Folders(configuration, personal, everyones)


def _version(text: str) -> tuple[int, ...]:
    for word in text.split():
        parts = word.split(".")
        if len(parts) >= 2 and all(part.isdigit() for part in parts[:2]):
            return tuple(int(part) for part in parts[:2])
    return (0, 0)


def script() -> str:
    """Our extcap program: a shell script, since Wireshark starts it once for each interface and each question."""
    root = Path(__file__).resolve().parents[2]
    code = (
        f"import sys; sys.path.insert(0, {str(root)!r})\n"
        "from emulator.commands.extcap import main; sys.exit(main(sys.argv[1:]))"
    )
    here = root / "emulator" / "commands" / "extcap.py"
    return f"""#!/bin/sh
{MARK}
case " $* " in
*" --extcap-dlts "*)
    echo 'dlt {{number=1}}{{name=EN10MB}}{{display=Ethernet}}'
    exit 0 ;;
*" --extcap-config "*:*:*:*) # one interface: there is nothing to choose
    exit 0 ;;
esac
if [ ! -r {shlex.quote(str(here))} ]; then
    echo 'Wirelab is no longer where it was: wirelab wireshark install' >&2
    exit 1
fi
exec {shlex.quote(sys.executable)} -I -S -c {shlex.quote(code)} "$@"
"""


def install() -> int:
    """Put the extcap program and the profile where Wireshark looks."""
    found = folders()
    for name, text in profile.FILES.items():
        _place_profile(found.configuration / "profiles" / profile.NAME / name, text)
    if found.personal is None:
        source = found.configuration / "extcap" / PROGRAM
        _write(source, script(), 0o755)
        raise MachineError(
            "this Wireshark reads extcap programs of the machine's folder only",
            hint=f"sudo install -m 755 {shlex.quote(str(source))} {shlex.quote(str(found.everyones))}/",
        )
    target = found.personal / PROGRAM
    if target.exists() and not _is_ours(target):
        raise CommandFailed(f"{target} is there and not ours", hint="move it away")
    _write(target, script(), 0o755)
    print(f"{target}")
    print(
        f"Wireshark lists the interfaces of running labs from its next start on; its profile {profile.NAME} suits them"
    )
    return 0


def _place_profile(path: Path, text: str) -> None:
    """Write a file of the profile, unless somebody has changed it."""
    if path.exists():
        print(f"{path} is there already and stays as it is", file=sys.stderr)
        return
    _write(path, text, 0o644)


def _write(path: Path, text: str, mode: int) -> None:
    """Write a file all at once: Wireshark may be about to start it."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh.write_text(text, encoding="utf-8")
        fresh.chmod(mode)
        fresh.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            fresh.unlink()
        raise CommandFailed(f"cannot write {path}: {error.strerror}") from None


def uninstall() -> int:
    """Take away what `install` made: the program, and the profile's files that nobody has changed."""
    found = folders()
    gone = []
    for folder in dict.fromkeys((found.personal, found.configuration / "extcap")):
        if folder is not None and _is_ours(folder / PROGRAM):
            (folder / PROGRAM).unlink()
            gone.append(folder / PROGRAM)
    own = found.configuration / "profiles" / profile.NAME
    for name, text in profile.FILES.items():
        with contextlib.suppress(OSError, UnicodeDecodeError):
            if (own / name).read_text(encoding="utf-8") == text:
                (own / name).unlink()
                gone.append(own / name)
            else:
                print(f"{own / name} was changed and stays", file=sys.stderr)
    with contextlib.suppress(OSError):
        own.rmdir()
    if found.everyones and _is_ours(found.everyones / PROGRAM):
        print(f"also: sudo rm {shlex.quote(str(found.everyones / PROGRAM))}", file=sys.stderr)
    for path in gone:
        print(f"{path} is gone")
    if not gone:
        print("nothing of Wirelab was installed in Wireshark", file=sys.stderr)
    return 0


def _is_ours(path: Path) -> bool:
    try:
        return MARK in path.read_text(encoding="utf-8").splitlines()[1:2]
    except (OSError, UnicodeDecodeError):
        return False


def profile_arguments() -> list[str]:
    """What makes Wireshark use our profile, if it is installed."""
    with contextlib.suppress(MachineError):
        if (folders().configuration / "profiles" / profile.NAME).is_dir():
            return ["-C", profile.NAME]
    return []
