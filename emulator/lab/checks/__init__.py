"""The checks of a lab file: what each kind of check needs to know. How they are judged is the verify room's business.

Every check is judged from captured packets and kernel tables. Filters are written as Wireshark's display filters, so
that a person can paste them there. A check may be limited to the frames of one scene.
"""

from __future__ import annotations

from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Discriminator, Tag

from emulator.lab.checks import application, frames, link, network, transport
from emulator.lab.checks.base import Check


def kind_name(kind: type[Check]) -> str:
    """The word after `check:` that chooses `kind`."""
    name: str = kind.model_fields["check"].annotation.__args__[0]  # type: ignore[union-attr]
    return name


CHECK_KINDS: dict[str, type[Check]] = {
    kind_name(kind): kind
    for module in (frames, link, network, transport, application)
    for kind in vars(module).values()
    if isinstance(kind, type) and issubclass(kind, Check) and kind is not Check
}
"""Every kind of check by the word that chooses it: every class of these modules that is a check."""


def _kind_of(value: Any) -> Any:
    kind = value.get("check") if isinstance(value, dict) else getattr(value, "check", None)
    return kind if isinstance(kind, str) else None


if TYPE_CHECKING:
    AnyCheck = Check
else:
    AnyCheck = Annotated[
        reduce(or_, (Annotated[kind, Tag(name)] for name, kind in CHECK_KINDS.items())),
        Discriminator(_kind_of),
    ]
