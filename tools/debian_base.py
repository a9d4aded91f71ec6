"""A base image like `debian:bookworm-slim` made by debootstrap, for machines that can reach a Debian mirror but no
registry. The mirror is the one that the machine's own apt uses."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from typing import IO, Any, NamedTuple

from emulator.errors import CommandFailed, MachineError

RELEASE = "bookworm"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
NOT_IN_IMAGES = ("doc", "groff", "info", "linda", "lintian", "locale", "man")
"""Folders of /usr/share that Debian's own slim images are without; copyright files stay."""

_TARGETS = "$(ORIGIN)|$(REPO_URI)|$(RELEASE)|$(COMPONENT)"

# All of it happens on a file system in memory, in mount and PID namespaces of its own, and ends when standard input
# does: however this program ends, nothing of it stays.
# Arguments: release, mirror, keyring, lines of sources.list, and the proxy of apt or nothing.
_SCRIPT = r"""
set -eu
release=$1 mirror=$2 keyring=$3 sources=$4 proxy=$5
exec 3<&0 </dev/null
(cat <&3 >/dev/null; kill -9 -1) >/dev/null 2>&1 &
mount -t tmpfs -o mode=1777,size=2G wirelab /tmp
root=/tmp/root
[ -z "$proxy" ] || export http_proxy="$proxy" https_proxy="$proxy"
fetch() {
    rm -rf "$root"
    debootstrap --variant=minbase --force-check-gpg --keyring="$keyring" --cache-dir=/tmp/fetched \
        "$release" "$root" "$mirror" >&2
}
mkdir /tmp/fetched
fetch || { echo "once more, with what was fetched" >&2; umount "$root/proc" "$root/sys" || :; fetch; }
umount "$root/proc" "$root/sys" 2>/dev/null || :
printf '%s\n' "$sources" >"$root/etc/apt/sources.list"
mkdir -p "$root/etc/dpkg/dpkg.cfg.d" "$root/etc/apt/apt.conf.d"
for folder in NOT_IN_IMAGES; do
    printf 'path-exclude=/usr/share/%s/*\n' "$folder" >>"$root/etc/dpkg/dpkg.cfg.d/wirelab"
    find "$root/usr/share/$folder" -type f ! -name copyright -delete 2>/dev/null || :
    find "$root/usr/share/$folder" -type l -delete 2>/dev/null || :
    find "$root/usr/share/$folder" -mindepth 1 -type d -empty -delete 2>/dev/null || :
done
printf 'path-include=/usr/share/doc/*/copyright\n' >>"$root/etc/dpkg/dpkg.cfg.d/wirelab"
printf 'force-unsafe-io\n' >>"$root/etc/dpkg/dpkg.cfg.d/wirelab"
printf 'Acquire::Languages "none";\n' >"$root/etc/apt/apt.conf.d/wirelab"
printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
chmod 755 "$root/usr/sbin/policy-rc.d"
rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/* "$root"/var/cache/debconf/*-old "$root"/var/log/* \
    "$root/var/cache/ldconfig/aux-cache" "$root/etc/hostname" "$root/etc/resolv.conf"
tar --numeric-owner -C "$root" -c .
""".replace("NOT_IN_IMAGES", " ".join(NOT_IN_IMAGES))


class Mirrors(NamedTuple):
    """Where packages come from: the archive, and the lines of an apt source list."""

    archive: str
    lines: tuple[str, ...]


def machine_mirrors() -> Mirrors | None:
    """The mirrors of Debian in this machine's apt sources; None without one of this release."""
    try:
        done = subprocess.run(
            ["apt-get", "indextargets", "--format", _TARGETS, "Created-By: Packages"],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        return None
    return chosen_mirrors(done.stdout)


def chosen_mirrors(targets: str) -> Mirrors | None:
    """What of apt's index targets (lines of `origin|address|release|component`) is this release of Debian.

    The origin is empty until apt has been updated once, so it only rules out what says that it is another's.
    """
    found: dict[str, str] = {}
    for line in targets.splitlines():
        origin, address, release, component = [*line.split("|"), "", "", ""][:4]
        known = release in (RELEASE, f"{RELEASE}-updates", f"{RELEASE}-security")
        debian = origin in ("Debian", "") or origin.startswith("$(")
        if known and debian and component == "main" and re.match(r"https?://", address):
            found.setdefault(release, address.rstrip("/"))
    if RELEASE not in found:
        return None
    return Mirrors(found[RELEASE], tuple(f"deb {address} {release} main" for release, address in found.items()))


def proxy() -> str:
    """The proxy that this machine's apt uses, or nothing."""
    script = 'eval $(apt-config shell found Acquire::http::Proxy); printf %s "${found-}"'
    try:
        said = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=False).stdout
    except OSError:
        return ""
    return said if said.startswith("http") else ""


def make(client: Any, image: str, say: Callable[[str], None]) -> None:
    """Make the base image and give it the name `image`.

    Args:
        client: the engine, an object of the package `docker`.

    Raises:
        MachineError: no debootstrap, no mirror, or no right to run it.
        CommandFailed: debootstrap or the engine failed.
    """
    mirrors = machine_mirrors()
    hint = f"or bring the image: docker load <{RELEASE}-slim.tar, tagged debian:{RELEASE}-slim"
    if mirrors is None:
        raise MachineError(
            f"no registry can be reached, and this machine's apt knows no mirror of Debian {RELEASE} to make a base of",
            hint=f"add one to /etc/apt/sources.list.d, {hint}",
        )
    search = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    if shutil.which("debootstrap", path=search) is None or not os.path.exists(KEYRING):
        raise MachineError(
            "no registry can be reached, and debootstrap is missing, which could make the base image",
            hint=f"sudo apt-get install debootstrap debian-archive-keyring, {hint}",
        )
    say(f"no registry can be reached: making the base with debootstrap from {mirrors.archive}")
    sudo = [] if os.geteuid() == 0 else ["sudo", "env", f"PATH={search}"]
    if sudo and shutil.which("sudo") is None:
        raise MachineError("debootstrap must run as root", hint=f"sudo make images, {hint}")
    argv = [*sudo, "unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--mount-proc", "--kill-child"]
    argv += ["sh", "-c", _SCRIPT, "sh"]
    with tempfile.TemporaryFile() as log:
        argv += [RELEASE, mirrors.archive, KEYRING, "\n".join(mirrors.lines), proxy()]
        status, trouble = _import(client, image, argv, {"PATH": search, "LC_ALL": "C"}, log)
        if status != 0:
            log.seek(0)
            said = log.read().decode(errors="replace").strip().splitlines()
            said = [line for line in said if not line.startswith("I: ")] or said
            raise CommandFailed("debootstrap failed:\n" + "\n".join(f"  {line}" for line in said[-15:]))
        if trouble:
            raise CommandFailed(f"the engine did not take the base image: {trouble}")


def _import(client: Any, image: str, argv: list[str], env: dict[str, str], log: IO[bytes]) -> tuple[int, str]:
    """Hand what `argv` prints to the engine. Returns its exit status, and what went wrong at the engine or nothing."""
    import docker.errors
    import requests

    repository, _, tag = image.rpartition(":")
    changes = ['CMD ["bash"]', "LABEL wirelab.image=debian"]
    pipe = subprocess.PIPE
    trouble = ""
    with subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=log, env=env) as process:
        assert process.stdin and process.stdout
        try:
            client.api.import_image_from_stream(process.stdout, repository=repository, tag=tag, changes=changes)
        except (docker.errors.DockerException, requests.RequestException) as error:
            trouble = str(error)
        finally:
            process.stdin.close()
        status = process.wait()
    if status != 0 and not trouble:
        client.api.remove_image(image, force=True)
    return status, trouble
