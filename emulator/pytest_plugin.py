"""Labs in pytest.

    @pytest.mark.lab("nat")                       # a lab of its own for this test
    def test_page(lab):
        assert "Example" in lab["pc1"].run(["curl", "-s", "http://www.example.com/"], check=True).stdout

    pytestmark = pytest.mark.lab("nat", scope="module")      # one lab for all tests of the module

Every instance has a name of its own, so tests may run in parallel (xdist). When a test fails, its packets (pcapng) and
the nodes' tables are kept in the folder `--lab-artefacts` and named in the report.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

if TYPE_CHECKING:
    from emulator.capture.recorder import Recorder
    from emulator.controller import RunningLab

_numbers = itertools.count()
_watch_key: pytest.StashKey[Watch] = pytest.StashKey()
_module_key: pytest.StashKey[dict[str, Any]] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options of this plugin."""
    group = parser.getgroup("wirelab")
    group.addoption(
        "--lab-artefacts",
        default="artefacts",
        metavar="DIR",
        help="where packets and tables of failed lab tests are kept (default: artefacts)",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line(
        "markers",
        'lab(source, scope="test", allow_binds=False, allow_caps=False): the lab that the fixture `lab` brings up; '
        "scope: test or module; allow_binds: its nodes see the files that its `binds` name; allow_caps: its containers "
        "have the capabilities that its `cap-add` names",
    )


class Allowed(NamedTuple):
    """What a test's marker lets its lab have, as `emulator.up` takes it."""

    allow_binds: bool
    allow_caps: bool


class Watch:
    """A test's lab, recorded while the test runs."""

    def __init__(self, lab: RunningLab, file: Path) -> None:
        from emulator.capture.recorder import Recorder

        self.lab = lab
        self.file = file
        file.parent.mkdir(parents=True, exist_ok=True)
        output = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            self.recorder: Recorder | None = Recorder(lab.directory, list(lab.lab.nodes), output)
        finally:
            os.close(output)
        self.recorder.wait_ready()

    def stop(self, *, keep: bool) -> None:
        """End the recording."""
        recorder, self.recorder = self.recorder, None
        if recorder is None:
            return
        if keep:
            recorder.stop()
        else:
            recorder.close()
            self.file.unlink(missing_ok=True)

    def tables(self) -> str:
        """The nodes' tables as text."""
        from emulator.observe import read_tables

        tables = read_tables(self.lab.lab, self.lab.session)
        return "\n".join(
            f"{node} {table}: {text.strip()}" for node, own in tables.items() for table, text in own.items()
        )


@pytest.fixture
def lab(request: pytest.FixtureRequest) -> Generator[RunningLab, None, None]:
    """The running lab that the test's marker `lab` names."""
    marker = request.node.get_closest_marker("lab")
    if marker is None or not marker.args:
        raise pytest.UsageError('the fixture `lab` needs a marker: @pytest.mark.lab("nat")')
    shared = marker.kwargs.get("scope", "test") == "module"
    allowed = Allowed(*(marker.kwargs.get(name) is True for name in ("allow_binds", "allow_caps")))
    if shared:
        running = _module_lab(request, marker.args[0], allowed)
    else:
        running = _bring_up(marker.args[0], allowed)
    try:
        folder = Path(request.config.getoption("--lab-artefacts"))
        name = re.sub(r"[^A-Za-z0-9_.-]+", "-", request.node.nodeid).strip("-")[-150:]
        watch = Watch(running, folder / f"{name}.pcapng")
        request.node.stash[_watch_key] = watch
        try:
            yield running
        finally:
            watch.stop(keep=False)
    finally:
        if not shared:
            running.down()


def _bring_up(source: str | Path, allowed: Allowed) -> RunningLab:
    from emulator import controller

    name = re.sub(r"[^A-Za-z0-9_-]+", "-", Path(source).name.removesuffix(".yml")).strip("-") or "lab"
    return controller.up(source, name=f"{name[:30]}-test-{os.getpid()}-{next(_numbers)}", **allowed._asdict())


def _module_lab(request: pytest.FixtureRequest, source: str | Path, allowed: Allowed) -> RunningLab:
    module = request.node.getparent(pytest.Module)
    labs = module.stash.setdefault(_module_key, {})
    if str(source) not in labs:
        running = _bring_up(source, allowed)
        labs[str(source)] = running
        module.addfinalizer(running.down)
    found: RunningLab = labs[str(source)]
    return found


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Attach packets and tables to the report of a failed test."""
    report = yield
    watch = item.stash.get(_watch_key, None)
    if call.when == "call" and report.failed and watch is not None and watch.recorder is not None:
        try:
            tables = watch.tables()
            watch.stop(keep=True)
            report.sections.append(("lab packets", str(watch.file)))
            watch.file.with_suffix(".tables.txt").write_text(tables, encoding="utf-8")
            report.sections.append(("lab tables", tables))
        except Exception as error:
            report.sections.append(("lab packets", f"could not be kept: {error}"))
    return report
