"""Build the container images: images.py [--json] [--rebuild] [NAME…]. Only what changed is built.

An image is a folder images/NAME with a Dockerfile. What it was made of (the folder's content and the image below) is
kept as a label, so that nothing is done when it is the same. Images that do not need each other are built side by side.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tools")]

import debian_base  # noqa: E402

from emulator import __version__  # noqa: E402
from emulator.errors import CommandFailed, MachineError, UsageError, WirelabError, render  # noqa: E402
from emulator.run import engine  # noqa: E402

DEBIAN = "debian:bookworm-slim"
OWN_DEBIAN = f"wirelab/{DEBIAN}"
"""What takes the place of `DEBIAN` where that can be had from nowhere."""
HASH, PROVIDES, IMAGE = "wirelab.hash", "wirelab.provides", "wirelab.image"
WHOLE_CHECKOUT = "wirelab"
"""The image whose build sees the checkout, as far as .dockerignore lets it."""
PULL_TIMEOUT_S = 30
TIDY_S = 10

_FROM = re.compile(r"^FROM\s+(?:wirelab/(\w+):\$\{VERSION\}|\$\{BASE\})(?:\s+AS\s+\w+)?\s*$", re.MULTILINE)
_ADDS = re.compile(r'^LABEL wirelab\.adds="([^"]*)"', re.MULTILINE)
_MADE = re.compile(r"^\s*---> ([0-9a-f]{12,64})\s*$")


@dataclass(frozen=True)
class Recipe:
    """How an image is made; `parent` is None when it stands on Debian itself."""

    name: str
    parent: str | None
    adds: tuple[str, ...]
    files: Mapping[str, Path]
    """What the build sees: its name there → where it is."""

    @property
    def tag(self) -> str:
        """The image's full name."""
        return f"wirelab/{self.name}:{__version__}"

    def hash(self, below: str) -> str:
        """What the image is made of, on the image whose id is `below`."""
        digest = hashlib.sha256(f"{__version__}\0{below}\0{' '.join(self.adds)}".encode())
        for name, path in sorted(self.files.items()):
            octets = path.read_bytes()
            mode = "x" if os.access(path, os.X_OK) else "-"
            digest.update(f"\0{name}\0{mode}\0{len(octets)}\0".encode() + octets)
        return digest.hexdigest()


@dataclass(frozen=True)
class Built:
    """An image that is there; `seconds` is None when nothing had to be done."""

    name: str
    tag: str
    id: str
    provides: tuple[str, ...]
    bytes: int
    own_bytes: int
    seconds: float | None


def recipes(folder: Path = ROOT / "images") -> dict[str, Recipe]:
    """All images of the folder, each after the one it stands on."""
    found = {}
    for dockerfile in sorted(folder.glob("*/Dockerfile")):
        name = dockerfile.parent.name
        text = dockerfile.read_text(encoding="utf-8")
        below = _FROM.findall(text)
        if not below:
            raise CommandFailed(f"{dockerfile}: no line FROM ${{BASE}} or FROM wirelab/NAME:${{VERSION}}")
        adds = _ADDS.search(text)
        files = _checkout() if name == WHOLE_CHECKOUT else {}
        files |= {str(p.relative_to(dockerfile.parent)): p for p in dockerfile.parent.rglob("*") if p.is_file()}
        found[name] = Recipe(name, below[-1] or None, tuple(adds[1].split()) if adds else (), files)
    ordered: dict[str, Recipe] = {}
    while len(ordered) < len(found):
        ready = [r for r in found.values() if r.name not in ordered and (r.parent is None or r.parent in ordered)]
        if not ready:
            raise CommandFailed(f"images that stand on each other, or on none: {', '.join(found.keys() - ordered)}")
        ordered |= {recipe.name: recipe for recipe in ready}
    return ordered


def _checkout() -> dict[str, Path]:
    """The files of this checkout that a build with all of it sees."""
    from docker.utils.build import exclude_paths

    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    seen = exclude_paths(str(ROOT), [line for line in lines if line and not line.startswith("#")])
    return {name: ROOT / name for name in seen if (ROOT / name).is_file() and not name.startswith("build/")}


def needed(names: Sequence[str], known: Mapping[str, Recipe]) -> list[Recipe]:
    """The images `names` and those below them, in the order of building; all when none is named.

    Raises:
        UsageError: there is no such image.
    """
    if unknown := sorted(set(names) - known.keys()):
        raise UsageError(f"there is no image {', '.join(unknown)}", hint=f"there are: {', '.join(known)}")
    wanted = set(names or known)
    for recipe in reversed(list(known.values())):
        if recipe.name in wanted and recipe.parent:
            wanted.add(recipe.parent)
    return [recipe for recipe in known.values() if recipe.name in wanted]


@dataclass(frozen=True)
class Debian:
    """The image that all others stand on."""

    name: str
    id: str
    bytes: int


class Builder:
    """Builds images on one engine."""

    def __init__(self, socket: str, *, rebuild: bool = False) -> None:
        self.socket = socket
        self.rebuild = rebuild
        self.stopping = threading.Event()
        self.made: set[str] = set()
        """Ids of images without a name, which builds left on their way."""

    @contextlib.contextmanager
    def client(self) -> Iterator[Any]:
        """A connection to the engine; each thread has its own."""
        import docker

        client = docker.DockerClient(base_url=f"unix://{self.socket}", timeout=600)
        try:
            yield client
        finally:
            client.close()

    def build(self, wanted: Sequence[Recipe]) -> list[Built]:
        """Bring all images up to date.

        Raises:
            CommandFailed: a build failed. Whatever it left on its way is removed.
            MachineError: the base image can neither be had nor made.
        """
        with self.client() as client:
            debian = self._debian(client)
        say(f"standing on {debian.name}")
        pool = ThreadPoolExecutor(len(wanted))
        building: dict[str, Future[Built]] = {}
        try:
            for recipe in wanted:
                below = building[recipe.parent] if recipe.parent else None
                building[recipe.name] = pool.submit(self._build_one, recipe, below, debian)
            wait(building.values())
        except BaseException:
            self.stopping.set()
            pool.shutdown(wait=True, cancel_futures=True)
            self._tidy()
            raise
        pool.shutdown()
        failures = [error for future in building.values() if (error := future.exception())]
        if failures:
            self._tidy()
            raise next((e for e in failures if not isinstance(e, _NotTriedError)), failures[0])
        return [future.result() for future in building.values()]

    def _debian(self, client: Any) -> Debian:
        """The image that all others stand on: Debian's own, or one made here."""
        if (found := self._there(client)) is None:
            say(f"fetching {DEBIAN}")
            if not self._pull():
                debian_base.make(client, OWN_DEBIAN, say)
            found = self._there(client)
        if found is None:
            raise CommandFailed(f"the engine has no image {DEBIAN} although it took one")
        return found

    def _there(self, client: Any) -> Debian | None:
        import docker.errors

        for name in (DEBIAN, OWN_DEBIAN):
            with contextlib.suppress(docker.errors.ImageNotFound):
                image = client.images.get(name)
                return Debian(name, image.id, int(image.attrs["Size"]))
        return None

    def _pull(self) -> bool:
        import docker
        import docker.errors
        import requests

        client = docker.DockerClient(base_url=f"unix://{self.socket}", timeout=PULL_TIMEOUT_S)
        repository, _, tag = DEBIAN.partition(":")
        try:
            client.images.pull(repository, tag=tag)
        except (docker.errors.DockerException, requests.RequestException):
            return False
        finally:
            client.close()
        return True

    def _build_one(self, recipe: Recipe, below: Future[Built] | None, debian: Debian) -> Built:
        import docker.errors

        try:
            parent = below.result() if below else None
        except Exception:
            raise _NotTriedError(recipe.name) from None
        began = time.monotonic()
        with self.client() as client:
            provides = tuple(sorted({*(parent.provides if parent else ()), *recipe.adds}))
            wanted = recipe.hash(parent.id if parent else debian.id)
            old = None
            with contextlib.suppress(docker.errors.ImageNotFound):
                old = client.images.get(recipe.tag)
            seconds = None
            if old is None or old.labels.get(HASH) != wanted or self.rebuild:
                say(f"{recipe.name}: building")
                labels = {HASH: wanted, IMAGE: recipe.name, PROVIDES: " ".join(provides)}
                self._run(client, recipe, labels, debian.name)
                seconds = time.monotonic() - began
                say(f"{recipe.name}: built in {seconds:.0f} s")
                image = client.images.get(recipe.tag)
                if old is not None and old.id != image.id:
                    with contextlib.suppress(docker.errors.APIError):  # a container may still use it
                        client.api.remove_image(old.id)
            else:
                image = old
            size = int(image.attrs["Size"])
        under = parent.bytes if parent else debian.bytes
        return Built(recipe.name, recipe.tag, image.id, provides, size, size - under, seconds)

    def _run(self, client: Any, recipe: Recipe, labels: Mapping[str, str], base: str) -> None:
        import docker.errors
        import requests

        arguments = {"VERSION": __version__} if recipe.parent else {"BASE": base}
        if said := debian_base.proxy():
            arguments |= {"http_proxy": said}
        whole = recipe.name == WHOLE_CHECKOUT
        dockerfile = recipe.files["Dockerfile"]
        folder = ROOT if whole else dockerfile.parent
        tail: list[str] = []
        with _wheels() if whole else contextlib.nullcontext():
            try:
                stream = client.api.build(
                    path=str(folder), dockerfile=str(dockerfile.resolve()), tag=recipe.tag,
                    buildargs=arguments, labels=dict(labels), network_mode="host", nocache=self.rebuild,
                    rm=True, forcerm=True, decode=True,
                )  # fmt: skip
                for message in stream:
                    if self.stopping.is_set():
                        stream.close()
                        raise _NotTriedError(recipe.name)
                    text = str(message.get("stream", "")).rstrip()
                    if made := _MADE.match(text):
                        self.made.add(made[1])
                    tail += [line for line in text.splitlines() if line.strip()]
                    del tail[:-15]
                    if "error" in message:
                        raise CommandFailed(_failure(recipe.name, str(message["error"]), tail))
            except (docker.errors.DockerException, requests.RequestException) as error:
                raise CommandFailed(_failure(recipe.name, str(error), tail)) from None

    def _tidy(self) -> None:
        """Remove what builds have left on their way, unless an image with a name stands on it."""
        import docker.errors
        import requests

        deadline = time.monotonic() + TIDY_S
        gone = requests.RequestException, docker.errors.DockerException
        with contextlib.suppress(*gone), self.client() as client:
            left = set(self.made)
            while left and time.monotonic() < deadline:
                in_use = set()
                before = len(left)
                for image in sorted(left):
                    try:
                        if not client.images.get(image).tags:
                            client.api.remove_image(image)
                        left.discard(image)
                    except docker.errors.ImageNotFound:
                        left.discard(image)
                    except docker.errors.APIError as error:
                        if "container" in str(error):  # the engine has not ended the build yet
                            in_use.add(image)
                if not in_use and len(left) == before:
                    return  # other images stand on them
                time.sleep(0.1 if in_use else 0)


class _NotTriedError(Exception):
    """A build that was not tried, since the image below it failed or everything was stopped."""


def _failure(name: str, error: str, tail: Sequence[str]) -> str:
    return "\n".join([f"the image {name} cannot be built: {error.strip()}", *(f"  {line}" for line in tail)])


@contextlib.contextmanager
def _wheels() -> Iterator[None]:
    """The Python packages that the image needs, fetched here as for .venv, so that the build itself needs no index.

    Where that does not work, the build fetches them itself.
    """
    folder = ROOT / "build" / "wheels"
    machine = platform.machine()
    tags = [f"manylinux{kind}_{machine}" for kind in ("2014", "_2_17", "_2_28", "_2_31", "_2_34", "_2_35", "_2_36")]
    argv = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    argv += ["--only-binary", ":all:", "--python-version", "3.11", "--implementation", "cp", "--abi", "cp311"]
    argv += ["--abi", "abi3", "--abi", "none", "--dest", str(folder), "--requirement", str(ROOT / "requirements.txt")]
    argv += [word for tag in tags for word in ("--platform", tag)]
    try:
        if subprocess.run(argv, capture_output=True, check=False).returncode != 0:
            shutil.rmtree(folder, ignore_errors=True)
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        with contextlib.suppress(OSError):
            folder.parent.rmdir()


def say(text: str) -> None:
    """A line about what is going on."""
    print(f"images: {text}", file=sys.stderr, flush=True)


def _table(built: Sequence[Built]) -> str:
    lines = [f"{'IMAGE':<28} {'SIZE':>8} {'OWN':>8}"]
    for image in built:
        done = "up to date" if image.seconds is None else f"built in {image.seconds:.0f} s"
        lines.append(f"{image.tag:<28} {image.bytes / 1e6:>5.0f} MB {image.own_bytes / 1e6:>5.1f} MB  {done}")
    return "\n".join(lines)


def main(words: Sequence[str]) -> int:
    """Returns the exit status: 0 all images are there, 1 a build failed, 2 wrong usage, 3 no engine."""
    parser = argparse.ArgumentParser(prog="images.py", description="Build the container images; only what changed.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these, and what they stand on")
    parser.add_argument("--json", action="store_true", help="print the images as JSON")
    parser.add_argument("--folder", type=Path, default=ROOT / "images", help="where the images are (default: images)")
    parser.add_argument("--rebuild", action="store_true", help="build everything anew, with today's packages")
    options = parser.parse_args(words)
    from docker.errors import DockerException
    from requests import RequestException

    try:
        wanted = needed(options.names, recipes(options.folder))
        built = Builder(engine.usable(), rebuild=options.rebuild).build(wanted)
    except WirelabError as error:
        print(render(error), file=sys.stderr)
        return error.exit_status
    except (DockerException, RequestException) as error:
        gone = MachineError(f"the engine does not answer as it should: {error}", hint="see what it says, and once more")
        print(render(gone), file=sys.stderr)
        return gone.exit_status
    except KeyboardInterrupt:
        return 130
    if options.json:
        print(json.dumps({"images": [vars(image) for image in built]}))
    else:
        print(_table(built))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
