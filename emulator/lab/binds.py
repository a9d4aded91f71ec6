"""`binds`: files and folders of the machine that nodes see. A lab file only asks for them; the user has to agree."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable
from typing import Annotated

from pydantic import AfterValidator

from emulator.lab.resolved import Bind

_FORM = re.compile(r"(?P<source>[^:]+)(:(?P<target>[^:]+?))?(:(?P<mode>ro|rw))?")
_OURS = ("/proc", "/sys", "/dev", "/run/wirelab", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf")
"""Places of a node that are Wirelab's."""


def _parts(text: str) -> tuple[str, str, bool]:
    match = _FORM.fullmatch(text)
    if not match:
        raise ValueError(f"expected SOURCE[:TARGET][:ro] such as ./app:/opt/app:ro, not '{text}'")
    source, target = match["source"], match["target"]
    if target in ("ro", "rw") and match["mode"] is None:  # SOURCE:ro
        return source, source, target == "ro"
    return source, target or source, match["mode"] == "ro"


def _bind(text: str) -> str:
    _, target, _ = _parts(text)
    if not target.startswith("/"):
        raise ValueError(f"expected where the node sees it, an absolute path: {text}:/PATH")
    if posixpath.normpath(target) != target or target == "/" or target.startswith(("//", "/.")):
        raise ValueError(f"expected a plain absolute path in the node, without `..`, not '{target}'")
    if any(target == place or target.startswith(f"{place}/") for place in _OURS):
        raise ValueError(f"{target} is Wirelab's in every node")
    return text


def _binds(values: tuple[str, ...]) -> tuple[str, ...]:
    targets = [_parts(text)[1] for text in values]
    for target in targets:
        if targets.count(target) > 1:
            raise ValueError(f"{target} is named twice")
    return values


BindText = Annotated[str, AfterValidator(_bind)]

Binds = Annotated[tuple[BindText, ...], AfterValidator(_binds)]


def resolve_binds(texts: Iterable[str], folder: str) -> tuple[Bind, ...]:
    """The long form; `folder` is the lab file's."""
    found = (_parts(text) for text in texts)
    return tuple(Bind(posixpath.join(folder, source), target, read_only) for source, target, read_only in found)
