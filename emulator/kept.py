"""Verifications that are kept in a folder, and judged again from it: no lab, no namespaces, no rights are needed.

A folder is there whole or not at all: it is written under the name DIR.tmp and renamed at the end. The form of the
files is in `emulator.verify.folder`.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import io
import json
import os
import shutil
import stat
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from emulator.errors import CommandFailed, UsageError
from emulator.report.json import from_dict
from emulator.verify import folder as form
from emulator.verify.evidence import Evidence
from emulator.verify.folder import CAPTURE, MANIFEST, FolderError, Kept, Manifest, Seal
from emulator.verify.verdict import Proof, Report
from emulator.version import VERSION

INDEX: Final = "labs.json"
"""Of a folder with the verifications of several labs: which lab is in which sub folder, in order."""

_INDEX_FORMAT: Final = 1
_MARK: Final = "incomplete"
"""A file in DIR.tmp that is locked as long as somebody writes there; it shows that the folder is ours."""

_FILE_OCTETS_MAX: Final = 1 << 30
"""Of one file of a folder: what is judged is in memory whole."""


class Keeping:
    """A folder that is being filled. A context manager: unless `finish` was reached, nothing of it is left.

    Raises:
        UsageError: the folder is there already and not empty, or somebody else is writing it.
        CommandFailed: it cannot be written.
    """

    def __init__(self, target: str | Path) -> None:
        self.target = Path(os.path.realpath(target))
        self.folder = self.target.with_name(f"{self.target.name}.tmp")
        self._lock = -1
        self._mine = False
        _must_be_free(self.target, str(target))
        try:
            self._make()
        except OSError as error:
            self.close()
            raise self.failure(error) from None

    def _make(self) -> None:
        mark = self.folder / _MARK
        with contextlib.suppress(FileNotFoundError):
            descriptor = os.open(mark, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(self.folder)  # what a killed verification left
            except BlockingIOError:
                raise UsageError(f"another verification is being kept in {self.target}") from None
            finally:
                os.close(descriptor)
        with contextlib.suppress(OSError):
            self.folder.rmdir()  # one that is empty holds nothing of anybody
        self.folder.mkdir(mode=0o700)
        self._mine = True
        self._lock = os.open(mark, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)

    @property
    def capture(self) -> Path:
        """Where the packets go."""
        return self.folder / CAPTURE

    def failure(self, error: OSError) -> CommandFailed:
        """`error` in words for a person."""
        if error.errno == errno.EEXIST and not self._mine:
            return CommandFailed(f"cannot keep the verification in {self.target}: {self.folder} is in the way")
        return CommandFailed(f"cannot keep the verification in {self.target}: {error.strerror or error}")

    def write(self, name: str, octets: bytes) -> None:
        """Add a file."""
        descriptor = os.open(self.folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(descriptor, "wb") as stream:
            stream.write(octets)

    def copy_capture(self, source: Path) -> None:
        """Take the packets from another file."""
        try:
            descriptor = os.open(self.capture, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with source.open("rb") as packets, open(descriptor, "wb") as stream:
                shutil.copyfileobj(packets, stream)
        except OSError as error:
            raise self.failure(error) from None

    def finish(self) -> None:
        """Everything is written: give the folder its name."""
        try:
            os.rename(self.folder, self.target)
        except OSError as error:
            raise self.failure(error) from None
        self._mine = False
        with contextlib.suppress(OSError):
            os.unlink(self.target / _MARK)

    def close(self) -> None:
        """Remove the folder, unless it is finished."""
        if self._mine:
            shutil.rmtree(self.folder, ignore_errors=True)
            self._mine = False
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def __enter__(self) -> Keeping:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.close()


def _must_be_free(target: Path, text: str) -> None:
    try:
        entries = os.listdir(target)
    except FileNotFoundError:
        return
    except NotADirectoryError:
        raise UsageError(f"{text} is there already and is no folder", hint="name a new folder") from None
    except OSError as error:
        raise UsageError(f"cannot keep the verification in {text}: {error.strerror}") from None
    if entries:
        raise UsageError(f"the folder {text} is not empty", hint="name a new folder, or an empty one")


def keep(place: Keeping, kept: Kept, report: Report, frames: int) -> None:
    """Write a verification whose packets are in `place.capture` already, and finish.

    Raises:
        CommandFailed: it cannot be written; nothing of it is left then.
    """
    try:
        files = form.to_files(kept)
        for name, octets in files.items():
            place.write(name, octets)
        octets_of_capture, sha256 = _hash(place.capture)
        seals = {name: form.seal(octets) for name, octets in files.items()}
        seals[CAPTURE] = Seal(octets_of_capture, sha256, frames)
        place.write(MANIFEST, form.manifest_octets(Manifest(report.lab, VERSION, seals)))
    except OSError as error:
        raise place.failure(error) from None
    place.finish()


def _hash(path: Path) -> tuple[int, str]:
    """The size and the SHA-256 of a file."""
    with open(_open(path), "rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
        return stream.tell(), found


def _open(path: Path) -> int:
    """A descriptor of a regular file; nothing else is opened, so that a pipe in a folder holds nobody up."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is not a regular file")
    return descriptor


def _read(folder: Path, name: str) -> bytes:
    try:
        with open(_open(folder / name), "rb") as stream:
            if os.fstat(stream.fileno()).st_size > _FILE_OCTETS_MAX:
                raise _wrong(folder, f"{name} is larger than {_FILE_OCTETS_MAX:,} octets")
            return stream.read()
    except FileNotFoundError:
        raise _wrong(folder, f"{name} is missing") from None
    except OSError as error:
        raise _wrong(folder, f"{name} cannot be read: {error.strerror}") from None


def _wrong(folder: Path, why: str) -> UsageError:
    return UsageError(f"cannot judge what is kept in {folder}: {why}")


def labs_of(folder: str | Path) -> list[tuple[str, Path]] | None:
    """The labs in a folder with the verifications of several, by name, each with its sub folder; None for others.

    Raises:
        UsageError: there is no such folder, or its index is garbled.
    """
    place = Path(folder)
    if not place.is_dir():
        raise UsageError(f"there is no folder {folder}", hint="wirelab verify LAB --keep DIR makes one")
    if not os.path.lexists(place / INDEX):
        return None
    try:
        index = json.loads(_read(place, INDEX))
        if index["format"] != _INDEX_FORMAT:
            raise _wrong(place, f"{INDEX} has a form that this Wirelab ({VERSION}) does not know")
        found = [(str(entry["lab"]), place / _inner(entry["folder"])) for entry in index["labs"]]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise _wrong(place, f"{INDEX} does not hold what it should") from None
    return found


def _inner(name: Any) -> str:
    if not isinstance(name, str) or "/" in name or name in ("", ".", "..") or "\0" in name:
        raise ValueError(name)
    return name


def index_octets(labs: list[tuple[str, str]]) -> bytes:
    """The index of a folder with several labs: (lab, sub folder), in order."""
    entries = [{"lab": lab, "folder": name} for lab, name in labs]
    return json.dumps({"format": _INDEX_FORMAT, "labs": entries}, indent=1).encode() + b"\n"


def replay(folder: str | Path, *, note: Callable[[str], None] | None = None) -> Proof:
    """Judge a kept verification again.

    Checks that need packets are UNKNOWN when the capture is not the one that was kept.

    Args:
        note: is told what is wrong with the capture, and when the verdicts differ from those that were kept though
            nothing was altered.

    Raises:
        UsageError: the folder is no kept verification, lacks a file, was altered, or is of another form.
    """
    from emulator.lab.document import parse
    from emulator.lab.load import build
    from emulator.lab.resolve import resolve
    from emulator.verify.judge import judge

    began = time.monotonic()
    place = Path(folder)
    if not place.is_dir():
        raise UsageError(f"there is no folder {folder}", hint="wirelab verify LAB --keep DIR makes one")
    try:
        manifest = form.read_manifest(_read(place, MANIFEST), VERSION)
        kept = _kept(place, manifest)
    except FolderError as error:
        raise _wrong(place, str(error)) from None
    document = parse(kept.text.encode("utf-8", "surrogatepass"), kept.source)
    lab = resolve(build(document, twin=kept.twin, included=kept.included), backend=kept.backend)
    other = _difference(kept.resolved, form.plain(lab))
    if other is not None:
        raise _wrong(
            place,
            f"this Wirelab ({VERSION}) makes another lab of lab.yml than Wirelab {manifest.wirelab} did: {other}",
        )
    evidence = _with_packets(kept.evidence, place, manifest.files[CAPTURE])
    results = judge(lab, evidence)
    report = Report(lab.name, results, round(time.monotonic() - began, 3))
    if note is not None:
        if evidence.damaged is None:
            _compare(kept, report, note)
        else:
            note(evidence.damaged)
    return Proof(report, kept.expected, kept.twin)


def _kept(folder: Path, manifest: Manifest) -> Kept:
    files = {}
    for name in form.FILES:
        files[name] = _read(folder, name)
        if form.seal(files[name]) != manifest.files[name]:
            raise FolderError(f"{name} was altered: its SHA-256 is not the one in {MANIFEST}")
    return form.from_files(files)


def _difference(kept: Any, made: Any) -> str | None:
    try:
        return form.difference(kept, made)
    except RecursionError:
        return "the whole"


def _with_packets(evidence: Evidence, folder: Path, seal: Seal) -> Evidence:
    """The evidence with its packets, or with the reason why there are none to be believed."""
    from emulator.capture.decode import decode
    from emulator.capture.pcapng import read

    try:
        with open(_open(folder / CAPTURE), "rb") as stream:
            there = os.fstat(stream.fileno()).st_size
            if there > _FILE_OCTETS_MAX:
                return replace(
                    evidence, damaged=f"the capture is too large to be judged: {there:,} octets of {_FILE_OCTETS_MAX:,}"
                )
            octets = stream.read(there) if there <= seal.octets else b""
    except FileNotFoundError:
        return replace(evidence, damaged=f"the capture is missing: there is no {CAPTURE}")
    except OSError as error:
        return replace(evidence, damaged=f"the capture cannot be read: {CAPTURE}: {error.strerror}")
    damage = _damage(octets, there, seal)
    if damage is not None:
        return replace(evidence, damaged=damage)
    recorded = read(io.BytesIO(octets))
    frames = decode(recorded.packets, recorded.interfaces)
    return replace(evidence, frames=frames, interfaces=recorded.interfaces, truncated=recorded.truncated)


def _damage(octets: bytes, there: int, seal: Seal) -> str | None:
    """What is wrong with a capture of `there` octets that begins with `octets`; None when it is the one that was
    kept."""
    if there < seal.octets:
        frames = "" if seal.frames is None else f", and {_frames(octets):,} of {seal.frames:,} frames"
        return f"the capture is cut short: {there:,} of {seal.octets:,} octets{frames} are there"
    if there > seal.octets:
        return f"the capture was altered: it has {there:,} octets, not {seal.octets:,}"
    found = form.seal(octets).sha256
    if found != seal.sha256:
        return f"the capture was altered: its SHA-256 begins with {found[:12]}, not with {seal.sha256[:12]}"
    return None


def _frames(octets: bytes) -> int:
    """How many whole frames are in a capture that is cut short."""
    from emulator.capture.pcapng import read

    with contextlib.suppress(UsageError):
        return len(read(io.BytesIO(octets)).packets)
    return 0


def _compare(kept: Kept, report: Report, note: Callable[[str], None]) -> None:
    try:
        before = {result.name: result.verdict for result in from_dict(kept.report).results}
    except (KeyError, TypeError, ValueError, AttributeError):
        note("the report that was kept cannot be read")
        return
    changed = [
        f"{result.name} was {before[result.name]}"
        for result in report.results
        if result.name in before and before[result.name] is not result.verdict
    ]
    if changed:
        note(f"the verdicts differ from those that were kept: {', '.join(changed)}")
