"""What root's labs see of /etc is what every user of the machine may read."""

from __future__ import annotations

import errno
import os
import signal
from pathlib import Path

import pytest

from emulator.run import view


def test_secrets_are_not_copied(tmp_path: Path) -> None:
    source, target = tmp_path / "etc", tmp_path / "copy"
    for folder, mode in (("open", 0o755), ("closed", 0o750), ("unlisted", 0o751), ("open/inner", 0o755)):
        (source / folder).mkdir(parents=True)
        (source / folder / "file").write_text(folder)
        (source / folder).chmod(mode)
    (source / "shadow").write_text("secret")
    (source / "shadow").chmod(0o640)
    (source / "passwd").write_text("names")
    (source / "passwd").chmod(0o6644)
    (source / "link").symlink_to("../../secret")
    os.mkfifo(source / "pipe")
    (source / "large").touch()
    os.truncate(source / "large", (16 << 20) + 1)
    target.mkdir()
    view.Copying(str(source), str(target)).wait()
    copied = {str(path.relative_to(target)) for path in target.rglob("*")}
    assert copied == {"open", "open/file", "open/inner", "open/inner/file", "passwd", "link"}
    assert (target / "open" / "inner" / "file").read_text() == "open/inner"
    assert (target / "passwd").stat().st_mode & 0o7777 == 0o644
    assert os.readlink(target / "link") == "../../secret"


@pytest.mark.parametrize("end", ["no room", "killed"])
def test_a_copy_that_is_not_whole_is_an_error(end: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_source: int, _target: int) -> None:
        if end == "no room":
            raise OSError(errno.ENOSPC, "no room")
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(view, "copy_readable", fails)
    copying = view.Copying(str(tmp_path), str(tmp_path))
    with pytest.raises(OSError, match="copy /etc") as raised:
        copying.wait()
    assert raised.value.errno == (errno.ENOSPC if end == "no room" else errno.EINTR)
    with pytest.raises(OSError, match="copy /etc"):
        copying.wait()  # and so it stays
