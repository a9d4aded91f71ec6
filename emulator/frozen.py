"""`dataclass(frozen=True)` and `field` of the standard library, for modules that every `up` waits for.

The standard library compiles six functions a class, and what it imports takes as long as a dozen classes; together that
was a third of what `up` imports. Here `__init__` alone is compiled, the other functions are the same for all classes.
`dataclasses.replace`, `fields` and `asdict` take these classes for their own: what they look for is made then.
Type checkers see the real ones. Annotations must be text (PEP 563). Imports nothing of the project.
"""

from __future__ import annotations

from operator import attrgetter

TYPE_CHECKING = False  # the module `typing` costs milliseconds
if TYPE_CHECKING:
    from collections.abc import Callable
    from dataclasses import dataclass, field
    from typing import Any

    __all__ = ["dataclass", "field"]
else:

    def dataclass(*, frozen):
        """As `dataclasses.dataclass`, for frozen classes."""
        assert frozen
        return _made

    def field(*, default_factory):
        """As `dataclasses.field`, with a factory of defaults."""
        return _Factory(default_factory)


class _Factory:
    """In the place of a default: what makes one."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self.make = make


def _made(cls: Any) -> Any:
    kinds: dict[str, str] = {}
    defaults: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        known_kinds, known_defaults = vars(base).get("__frozen__", ({}, {}))
        kinds |= known_kinds
        defaults |= known_defaults
    own = {name: kind for name, kind in cls.__annotations__.items() if not kind.startswith("ClassVar")}
    kinds |= own
    for name in own.keys() & vars(cls).keys():
        defaults[name] = vars(cls)[name]
        if isinstance(defaults[name], _Factory):
            delattr(cls, name)
    cls.__frozen__ = kinds, defaults
    cls.__frozen_values__ = attrgetter(*kinds)  # no method: it is called with the object
    setattr(cls, "__match_args__", tuple(kinds))  # noqa: B010 - mypy has its own idea of it
    cls.__init__ = _init(kinds, defaults)
    cls.__eq__, cls.__hash__, cls.__repr__ = _is_equal, _hash, _text
    cls.__setattr__ = cls.__delattr__ = _refuse
    for name in ("__dataclass_fields__", "__dataclass_params__"):
        setattr(cls, name, _AsThere(name))
    return cls


def _is_equal(one: Any, other: Any) -> Any:
    return one.__frozen_values__(one) == other.__frozen_values__(other) if type(one) is type(other) else NotImplemented


def _hash(one: Any) -> int:
    return hash(one.__frozen_values__(one))


def _text(one: Any) -> str:
    return f"{type(one).__qualname__}({', '.join(f'{name}={getattr(one, name)!r}' for name in one.__match_args__)})"


def _refuse(one: Any, name: str, *_: object) -> None:
    from dataclasses import FrozenInstanceError

    raise FrozenInstanceError(f"cannot change {name} of {type(one).__name__}")


def _init(names: dict[str, str], defaults: dict[str, Any]) -> Callable[..., None]:
    """A function that sets the attributes `names`. Where the default is a factory it stands for what it makes."""
    words = [f"{name}=_{name}" if name in defaults else name for name in names]
    values = {
        name: f"_{name}.make() if {name} is _{name} else {name}" if isinstance(defaults.get(name), _Factory) else name
        for name in names
    }
    lines = [f"    _set(self, {name!r}, {value})" for name, value in values.items()]
    scope = {"_set": object.__setattr__, **{f"_{name}": value for name, value in defaults.items()}}
    exec("\n".join([f"def __init__(self, {', '.join(words)}):", *lines]), scope)  # noqa: S102 - our own text
    made: Callable[..., None] = scope["__init__"]
    return made


class _AsThere:
    """An attribute by which the functions of `dataclasses` know a class: that of a class which the standard library
    makes of the same fields."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._found: Any = None

    def __get__(self, _: object, cls: Any) -> Any:
        if self._found is None:
            import dataclasses

            kinds, defaults = cls.__frozen__
            own = {name: _field_as_there(defaults[name]) if name in defaults else dataclasses.field() for name in kinds}
            rows = [(name, kind, own[name]) for name, kind in kinds.items()]
            self._found = getattr(dataclasses.make_dataclass(cls.__name__, rows, frozen=True), self._name)
        return self._found


def _field_as_there(default: Any) -> Any:
    import dataclasses

    if isinstance(default, _Factory):
        return dataclasses.field(default_factory=default.make)
    return dataclasses.field(default=default)
