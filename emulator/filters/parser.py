"""From a filter's text to its parts."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass

from emulator.errors import UsageError
from emulator.filters.fields import KNOWN_FIELDS, KNOWN_PROTOCOLS, FieldType
from emulator.filters.terms import Compare, Expression, Filter, Junction, Member, Not, Operand, Present

_MAX_DEPTH = 64
_WORDS = {"eq": "==", "ne": "!=", "gt": ">", "lt": "<", "ge": ">=", "le": "<=", "not": "!", "and": "&&", "or": "||"}
_ORDERED = ("<", ">", "<=", ">=")


class FilterError(UsageError):
    """A filter that cannot be understood. `column` counts from 1."""

    def __init__(self, message: str, column: int, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.column = column


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    column: int


_TOKEN = re.compile(
    r"""(?P<blank>\s+) | (?P<string>"(?:[^"\\]|\\.)*") | (?P<symbol>==|!=|>=|<=|&&|\|\||[<>!(){},])
    | (?P<word>[A-Za-z0-9_.:/+-]+)""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPE = re.compile(r"\\(x[0-9A-Fa-f]{2}|[0-7]{1,3}|.)", re.DOTALL)
_CONTROLS = {"n": "\n", "r": "\r", "t": "\t", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}


def _unescaped(match: re.Match[str]) -> str:
    code = match[1]
    if code[0] == "x" and len(code) == 3:
        number = int(code[1:], 16)
    elif code[0] in "01234567":
        number = int(code, 8) & 0xFF
    else:
        return _CONTROLS.get(code, code)
    return chr(number) if number < 0x80 else chr(0xDC00 + number)


def _tokens(text: str) -> list[_Token]:
    tokens = []
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            what = "a string without its closing quote" if text[position] == '"' else f"unexpected {text[position]!r}"
            raise FilterError(what, position + 1)
        if match.lastgroup != "blank":
            tokens.append(_Token(str(match.lastgroup), match[0], position + 1))
        position = match.end()
    return [*tokens, _Token("end", "the end", len(text) + 1)]


class _Parser:
    """Recursive descent over the tokens: or, and, not, relation, from the weakest to the strongest bond."""

    def __init__(self, tokens: list[_Token]) -> None:
        self._tokens = tokens
        self._next = 0
        self._depth = 0

    def whole(self) -> Expression:
        """The expression that all tokens make."""
        expression = self._junction("||")
        token = self._take()
        if token.kind != "end":
            raise FilterError(f"expected && or || before {token.text!r}", token.column)
        return expression

    def _peek(self) -> str:
        """The operator or punctuation that comes next; empty when it is something else."""
        token = self._tokens[self._next]
        if token.kind == "word":
            return {**_WORDS, "in": "in", "contains": "contains"}.get(token.text, "")
        return token.text if token.kind == "symbol" else ""

    def _take(self) -> _Token:
        token = self._tokens[self._next]
        self._next = min(self._next + 1, len(self._tokens) - 1)
        return token

    def _expect(self, symbol: str) -> None:
        token = self._take()
        if token.kind != "symbol" or token.text != symbol:
            raise FilterError(f"expected {symbol!r} instead of {token.text!r}", token.column)

    def _junction(self, operator: str) -> Expression:
        parts = [self._part(operator)]
        while self._peek() == operator:
            self._take()
            parts.append(self._part(operator))
        return parts[0] if len(parts) == 1 else Junction(operator, tuple(parts))

    def _part(self, operator: str) -> Expression:
        return self._junction("&&") if operator == "||" else self._factor()

    def _factor(self) -> Expression:
        symbol = self._peek()
        if symbol not in ("!", "("):
            return self._relation()
        token = self._take()
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise FilterError("nested too deeply", token.column)
        if symbol == "!":
            expression: Expression = Not(self._factor())
        else:
            expression = self._junction("||")
            self._expect(")")
        self._depth -= 1
        return expression

    def _relation(self) -> Expression:
        token = self._take()
        if token.kind != "word":
            raise FilterError(f"expected the name of a field or protocol instead of {token.text!r}", token.column)
        name = token.text
        if name not in KNOWN_FIELDS and name not in KNOWN_PROTOCOLS:
            near = difflib.get_close_matches(name, [*KNOWN_FIELDS, *KNOWN_PROTOCOLS], n=1)
            hint = f"did you mean {near[0]}?" if near else None
            raise FilterError(f"no field or protocol is called {name!r}", token.column, hint=hint)
        operator = self._peek()
        if operator not in (*_ORDERED, "==", "!=", "in", "contains"):
            return Present(name)
        column = self._take().column
        if name not in KNOWN_FIELDS:
            raise FilterError(f"{name} is a protocol: only its presence can be asked for", column)
        if operator == "contains" and KNOWN_FIELDS[name] not in (FieldType.TEXT, FieldType.OCTETS):
            raise FilterError(f"`contains` looks into text and octets; {name} is {KNOWN_FIELDS[name].value}", column)
        return Member(name, self._set(name)) if operator == "in" else Compare(name, operator, self._operand(name))

    def _set(self, field: str) -> tuple[Operand, ...]:
        self._expect("{")
        operands = []
        while self._peek() != "}":
            operands.append(self._operand(field, ranges=True))
            if self._peek() == ",":
                self._take()
            elif self._peek() not in ("}", None) and self._next < len(self._tokens):
                token = self._tokens[self._next]
                if token.kind in ("word", "string"):
                    raise FilterError(f"expected a comma before {token.text}, as Wireshark wants it", token.column)
        self._expect("}")
        if not operands:
            raise FilterError("an empty set", self._tokens[self._next].column)
        return tuple(operands)

    def _operand(self, field: str, *, ranges: bool = False) -> Operand:
        token = self._take()
        if token.kind not in ("word", "string"):
            raise FilterError(f"expected a value instead of {token.text!r}", token.column)
        if token.kind == "word" and (token.text in KNOWN_FIELDS or (".." in token.text and not ranges)):
            raise FilterError(f"{token.text} is not a value that {field} can be compared with", token.column)
        quoted = token.kind == "string"
        operand = Operand(_ESCAPE.sub(_unescaped, token.text[1:-1]) if quoted else token.text, quoted)
        try:
            operand.span(KNOWN_FIELDS[field])
        except ValueError:
            raise FilterError(
                f"{field} is {KNOWN_FIELDS[field].value}, which {token.text} is not", token.column
            ) from None
        return operand


def parse_text(text: str) -> Filter:
    """The filter that `text` says; FilterError with the column of the first thing that is wrong."""
    surrogate = re.search("[\ud800-\udfff]", text)
    if surrogate:
        raise FilterError("not Unicode text", surrogate.start() + 1)
    if not text.strip():
        raise FilterError("an empty filter", 1)
    return Filter(_Parser(_tokens(text)).whole())
