"""Building blocks of the lab file's model: frozen models, and text that refers to something else in the file."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from emulator.lab import patterns


def _hyphens(name: str) -> str:
    return name.rstrip("_").replace("_", "-")


class Model(BaseModel):
    """A frozen part of a lab file: unknown keys are errors, keys of several words are written with hyphens."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, alias_generator=_hyphens, populate_by_name=False, arbitrary_types_allowed=True
    )


@dataclass(frozen=True)
class Ref:
    """Marks text that names a thing of the lab file: a node, an endpoint, a scene, a filter, …"""

    to: str


def _seconds(value: Any) -> Any:
    """`90`, `"90s"`, `"5m"`, `"1h"`, `"7d"` → seconds."""
    if isinstance(value, str):
        match = re.fullmatch(r"([0-9]+)(s|m|h|d)?", value)
        if not match:
            raise ValueError(f"expected a duration such as 30s, 5m, 1h or 7d, not '{value}'")
        return int(match[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[match[2] or "s"]
    return value


def as_list(value: Any) -> Any:
    """One value is the short form of a list of one."""
    return value if isinstance(value, (list, tuple)) or value is None else [value]


def _pattern(text: str) -> str:
    """`text`, when it is a regular expression."""
    patterns.compiled(text)
    return text


def _demanding(text: str) -> str:
    """`text`, when it asks for something: a check must be able to fail."""
    if patterns.matches_anything(text):
        raise ValueError("this regular expression matches any text")
    return text


WORD_PATTERN = r"^[a-z0-9][a-z0-9-]{0,47}$"
LAB_NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$"
MAC_PATTERN = r"^[0-9a-f][02468ace](:[0-9a-f]{2}){5}$"
SYSCTL_PATTERN = r"^net(\.[A-Za-z0-9_-]+)+$"
VARIABLE_PATTERN = r"^[A-Za-z_][A-Za-z0-9_]*$"
PAGE_PATTERN = r"^/[A-Za-z0-9._~/-]*$"
DNS_NAME_PATTERN = r"^[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?)*\.?$"

MODE_PATTERN = r"^[0-7]{3}$"
IMAGE_PATTERN = r"^[a-z0-9][A-Za-z0-9._/:@-]{0,254}$"
USER_PATTERN = r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,31}(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,31})?$"
CAPABILITY_PATTERN = r"^[A-Z][A-Z_]{1,30}$"

PATTERNS = {
    WORD_PATTERN: "small letters, digits and hyphens, at most 48",
    LAB_NAME_PATTERN: "letters, digits, `.`, `_` and `-`, a letter or digit first, at most 63",
    MAC_PATTERN: "a unicast MAC in small letters such as 02:00:00:00:00:01",
    SYSCTL_PATTERN: "a kernel setting below `net.`",
    VARIABLE_PATTERN: "the name of an environment variable",
    PAGE_PATTERN: "a path such as /index.html of letters, digits and . _ ~ - /",
    DNS_NAME_PATTERN: "a domain name",
    MODE_PATTERN: "three octal digits such as 755, in quotes",
    IMAGE_PATTERN: "an image's name such as debian:bookworm-slim",
    USER_PATTERN: "a user, or user:group, by names or numbers",
    CAPABILITY_PATTERN: "a capability without CAP_ such as SYS_PTRACE (capabilities(7))",
}
"""What each pattern asks for, in words."""

Seconds = Annotated[int, BeforeValidator(_seconds, json_schema_input_type=int | str), Field(ge=1, le=365 * 86400)]
NodeName = Annotated[str, Ref("node")]
EndpointName = Annotated[str, Ref("endpoint")]
PlaceName = Annotated[str, Ref("place")]
SceneName = Annotated[str, Ref("scene")]
ServiceName = Annotated[str, Ref("service")]
NodeOrService = Annotated[str, Ref("node or service")]
Restart = Literal["on-failure"]
"""Whether a daemon that failed is started again."""
FilterText = Annotated[str, Ref("filter")]
Template = Annotated[str, Ref("template")]
DnsName = Annotated[str, Field(pattern=DNS_NAME_PATTERN, max_length=253)]
AddressText = Annotated[str, Ref("address")]
Pattern = Annotated[str, AfterValidator(_pattern)]
Demand = Annotated[Pattern, AfterValidator(_demanding)]

Places = Annotated[tuple[PlaceName, ...], BeforeValidator(as_list, json_schema_input_type=str | list[str])]
NodeNames = Annotated[tuple[NodeName, ...], BeforeValidator(as_list, json_schema_input_type=str | list[str])]
Addresses = Annotated[tuple[AddressText, ...], BeforeValidator(as_list, json_schema_input_type=str | list[str])]
