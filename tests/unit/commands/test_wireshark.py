"""`wirelab wireshark install` with Wiresharks that only say where they look."""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from emulator.cli import main
from emulator.commands import wireshark, wireshark_profile
from emulator.errors import CommandFailed, MachineError

LISTING_4_0 = """\
Temp:                	/tmp
Personal configuration:	{home}/.config/wireshark
Global configuration:	/usr/share/wireshark
Extcap path:         	/usr/lib/x86_64-linux-gnu/wireshark/extcap
"""
LISTING_4_2 = """\
Personal configuration:	{home}/.config/wireshark
Personal Extcap path:	{home}/.local/lib/wireshark/extcap
Global Extcap path:	/usr/lib/x86_64-linux-gnu/wireshark/extcap
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home, and a folder of programs in which there is no Wireshark yet."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    yield tmp_path
    for number, handler in handlers.items():
        signal.signal(number, handler)


def have(home: Path, listing: str, version: str, name: str = "tshark") -> None:
    """Put a program there that answers like Wireshark."""
    program = home / "bin" / name
    (home / "listing").write_text(listing.format(home=home))
    program.write_text(
        f'#!/bin/sh\ncase "$1" in -G) /bin/cat {home}/listing ;; *) echo "TShark (Wireshark) {version}." ;; esac\n'
    )
    program.chmod(0o755)


def run(action: str) -> int:
    return main(["wireshark", action])


def test_the_folders_of_4_0_and_4_2() -> None:
    old = wireshark.read_folders(LISTING_4_0.format(home="/h"), "TShark (Wireshark) 4.0.17 (Git v4.0.17 packaged).")
    assert old is not None
    assert old.personal == Path("/h/.config/wireshark/extcap")
    new = wireshark.read_folders(LISTING_4_2.format(home="/h"), "TShark (Wireshark) 4.2.2.")
    assert new is not None
    assert new.personal == Path("/h/.local/lib/wireshark/extcap")
    assert old.everyones == new.everyones == Path("/usr/lib/x86_64-linux-gnu/wireshark/extcap")


@pytest.mark.parametrize("version", ["TShark (Wireshark) 2.6.20.", "", "TShark"])
def test_an_old_one_has_no_folder_of_the_users_own(version: str) -> None:
    found = wireshark.read_folders(LISTING_4_0.format(home="/h"), version)
    assert found is not None
    assert found.personal is None


@pytest.mark.parametrize("listing", ["", "no colon", "Extcap path: /x\n"])
def test_an_answer_that_is_none(listing: str) -> None:
    assert wireshark.read_folders(listing, "4.2.2") is None


@pytest.mark.parametrize(
    ("listing", "version", "place"),
    [(LISTING_4_0, "4.0.17", ".config/wireshark/extcap"), (LISTING_4_2, "4.4.1", ".local/lib/wireshark/extcap")],
)
def test_install_and_uninstall(
    home: Path, listing: str, version: str, place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    have(home, listing, version)
    for _ in range(2):
        assert run("install") == 0
        program = home / place / "wirelab"
        assert program.stat().st_mode & 0o777 == 0o755
        assert str(program) in capsys.readouterr().out
    own = home / ".config" / "wireshark" / "profiles" / "Wirelab"
    assert {file.name for file in own.iterdir()} == {"preferences", "colorfilters"}
    assert run("uninstall") == 0
    assert not program.exists()
    assert not own.exists()
    capsys.readouterr()
    assert run("uninstall") == 0
    assert "nothing of Wirelab was installed" in capsys.readouterr().err


def test_what_somebody_changed_stays(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    have(home, LISTING_4_2, "4.2.0")
    run("install")
    preferences = home / ".config" / "wireshark" / "profiles" / "Wirelab" / "preferences"
    preferences.write_text("gui.own: TRUE\n")
    run("install")
    assert "stays as it is" in capsys.readouterr().err
    run("uninstall")
    assert preferences.read_text() == "gui.own: TRUE\n"
    assert "was changed and stays" in capsys.readouterr().err


def test_a_program_of_somebody_else_is_not_touched(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    have(home, LISTING_4_2, "4.2.0")
    program = home / ".local" / "lib" / "wireshark" / "extcap" / "wirelab"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\necho other\n")
    assert run("install") == 1
    assert "is there and not ours" in capsys.readouterr().err
    assert run("uninstall") == 0
    assert program.read_text() == "#!/bin/sh\necho other\n"


def test_an_old_one_needs_a_command(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    have(home, LISTING_4_0, "2.6.20")
    assert run("install") == 3
    said = capsys.readouterr().err
    assert "reads extcap programs of the machine's folder only" in said
    source = home / ".config" / "wireshark" / "extcap" / "wirelab"
    assert f"sudo install -m 755 {source} /usr/lib/x86_64-linux-gnu/wireshark/extcap/" in said
    assert source.stat().st_mode & 0o111


def test_no_wireshark(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for action in ("install", "uninstall"):
        assert run(action) == 3
        assert "there is no Wireshark here" in capsys.readouterr().err
    assert wireshark.profile_arguments() == []
    have(home, "nonsense", "4.2.0")
    with pytest.raises(MachineError):
        wireshark.folders()


def test_a_home_that_cannot_be_written(home: Path) -> None:
    have(home, LISTING_4_2, "4.2.0")
    (home / ".local").write_text("a file, no folder")
    with pytest.raises(CommandFailed, match="cannot write"):
        wireshark.install()


def test_the_profile_is_used_when_it_is_there(home: Path) -> None:
    have(home, LISTING_4_2, "4.2.0", name="wireshark")
    assert wireshark.profile_arguments() == []
    run("install")
    assert wireshark.profile_arguments() == ["-C", "Wirelab"]


def test_the_script_answers_by_itself_what_needs_no_look(tmp_path: Path) -> None:
    program = tmp_path / "wirelab"
    program.write_text(wireshark.script().replace(wireshark.sys.executable, "/bin/false"))
    program.chmod(0o755)

    def ask(*arguments: str) -> tuple[int, str]:
        done = subprocess.run([str(program), *arguments], capture_output=True, text=True, check=False)
        return done.returncode, done.stdout

    assert ask("--extcap-dlts", "--extcap-interface", "wirelab:nat") == (
        0,
        "dlt {number=1}{name=EN10MB}{display=Ethernet}\n",
    )
    assert ask("--extcap-config", "--extcap-interface", "wirelab:nat:pc1:eth0") == (0, "")
    assert ask("--extcap-config", "--extcap-interface", "wirelab:nat")[0] == 1  # that asks Python
    assert ask("--extcap-interfaces")[0] == 1


def test_the_script_says_when_wirelab_is_gone(tmp_path: Path) -> None:
    program = tmp_path / "wirelab"
    root = str(Path(wireshark.__file__).parents[2])
    program.write_text(wireshark.script().replace(root, "/absent"))
    program.chmod(0o755)
    done = subprocess.run([str(program), "--extcap-interfaces"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "wirelab wireshark install" in done.stderr


@pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark is not installed")
def test_wireshark_knows_the_filters_of_the_colours_and_the_preferences(tmp_path: Path) -> None:
    """An unknown field in a rule is told when Wireshark starts; tshark tells it as a display filter."""
    capture = Path(__file__).parents[1] / "capture" / "real.pcap"
    for expression in (*wireshark_profile.FILTERS, "no.such.field"):
        done = subprocess.run(
            ["tshark", "-r", str(capture), "-Y", expression], capture_output=True, text=True, check=False
        )
        assert (done.returncode == 0) is (expression != "no.such.field"), (expression, done.stderr)
    own = tmp_path / "profiles" / "Wirelab"
    own.mkdir(parents=True)
    for name, text in wireshark_profile.FILES.items():
        (own / name).write_text(text)
    done = subprocess.run(
        ["tshark", "-C", "Wirelab", "-r", str(capture), "-c", "1"],
        capture_output=True, text=True, check=True,
        env={"WIRESHARK_CONFIG_DIR": str(tmp_path), "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    complaints = [line for line in done.stderr.splitlines() if "preferences line" in line or "colorfilters" in line]
    assert complaints == []
