"""Settings are written through fresh views of /proc, each for a few namespaces; without any through /proc itself."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from emulator.run.sysctl import NAMESPACES_A_VIEW, Settings


class Views:
    """Folders that look like /proc, one after the other, and which of them are still open."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.descriptors: list[int] = []

    def new(self) -> int:
        folder = self.base / str(len(self.descriptors)) / "sys/net/ipv4"
        folder.mkdir(parents=True)
        (folder / "ip_forward").write_text("")
        self.descriptors.append(os.open(folder.parents[2], os.O_RDONLY))
        return self.descriptors[-1]

    def written(self) -> list[str]:
        return [(self.base / str(number) / "sys/net/ipv4/ip_forward").read_text() for number in range(self.count)]

    @property
    def count(self) -> int:
        return len(self.descriptors)


def test_a_view_serves_a_few_namespaces(tmp_path: Path) -> None:
    views = Views(tmp_path)
    settings = Settings(views.new)
    for number in range(2 * NAMESPACES_A_VIEW + 1):
        settings.in_new_namespace()
        settings.write("net.ipv4.ip_forward", str(number))
    settings.close()
    assert views.count == 3
    assert views.written() == [str(NAMESPACES_A_VIEW - 1), str(2 * NAMESPACES_A_VIEW - 1), str(2 * NAMESPACES_A_VIEW)]
    for descriptor in set(views.descriptors):
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(descriptor)


def test_without_a_view_the_machines_own_serves() -> None:
    asked = []

    def refuse() -> int:
        asked.append(1)
        raise OSError(errno.EPERM, "refused")

    settings = Settings(refuse)
    for _ in range(3 * NAMESPACES_A_VIEW):
        settings.in_new_namespace()
    assert len(asked) == 1, "it is not asked for again"
    with pytest.raises(FileNotFoundError, match="No such file"):
        settings.write("net.there.is.no.such", "1")


def test_a_setting_that_is_not_there_is_told(tmp_path: Path) -> None:
    views = Views(tmp_path)
    settings = Settings(views.new)
    settings.in_new_namespace()
    with pytest.raises(FileNotFoundError):
        settings.write("net.ipv4.nothing", "1")
    settings.close()
