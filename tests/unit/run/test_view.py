"""What root's labs see of /etc is what every user of the machine may read."""

from __future__ import annotations

import os
from pathlib import Path

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
    view._copy_readable(str(source), str(target))
    copied = {str(path.relative_to(target)) for path in target.rglob("*")}
    assert copied == {"open", "open/file", "open/inner", "open/inner/file", "passwd", "link"}
    assert (target / "open" / "inner" / "file").read_text() == "open/inner"
    assert (target / "passwd").stat().st_mode & 0o7777 == 0o644
    assert os.readlink(target / "link") == "../../secret"
