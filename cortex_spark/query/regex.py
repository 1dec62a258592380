r"""From a pattern as MongoDB takes it (PCRE) to one of RE2 that matches the same strings, or a refusal.

Every engine that is ours matches by RE2, whose time grows with the text alone. What the two syntaxes share is parsed
here and written anew without flags; what they read differently is put in words that they share:

- ``$`` of PCRE stands before a last newline too: ``\n?\z``, which says the same only at the end of a pattern;
- ``^`` after each newline (flag ``m``) is not, in PCRE, after the last character: so something has to follow it;
- ``\s`` has the vertical tab in PCRE alone;
- with the flag ``i`` both know more letters with every version: the other cases are written out, as PCRE has them;
- ``[Aa]`` is ``(?:A|a)``: in ``a|[Aa]`` the RE2 of DuckDB 2.0 forgets the ``A``.

Refused are ``\B``, which RE2 finds inside of characters; ``(a*)*``, of which PCRE does not find all; backreferences,
looking around, atomic groups, possessive quantifiers, Unicode properties, octal numbers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from itertools import chain
from typing import Final, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

MAX_LENGTH: Final = 1_000
MAX_DEPTH: Final = 50
_MAX_NAME: Final = 32  # of a group, in PCRE

_SPACE: Final = r"\t\n\x{b}\f\r "
_NO_SPACE: Final = r"\x{0}-\x{8}\x{e}-\x{1f}!-\x{10ffff}"
#: Escapes that are a set of characters, as they stand in brackets.
_SETS: Final = {"d": r"\d", "D": r"\D", "w": r"\w", "W": r"\W", "s": _SPACE, "S": _NO_SPACE}
_CONTROLS: Final = {"a": "\a", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_EDGES: Final = {"A": r"\A", "z": r"\z", "b": r"\b"}
# fmt: off
_NAMED: Final = frozenset({
    "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space", "upper", "word",
    "xdigit",
})
# fmt: on
_QUANTIFIER: Final = re.compile(r"[*+?]|\{(\d{1,5})(,(\d{0,5}))?\}", re.ASCII)
_GROUP: Final = re.compile(r"\(\?(?:P?<(?P<name>[A-Za-z_]\w*)>|(?P<on>[ims]*)(?:-(?P<off>[ims]+))?:)", re.ASCII)
_LEADING: Final = re.compile(r"\(\?([ims]+)\)")
_LETTERS: Final = 0x118E0  # behind the last letter of two cases
#: Letters that have no other case for PCRE 8.42, whose Unicode is 7.0: they came later, or took part in none of old.
_ALONE: Final = frozenset(
    chr(number)
    for first, last in (
        *((0x131, 0x131), (0x13F8, 0x13FD), (0x1C80, 0x1CBF), (0x2C2F, 0x2C2F), (0x2C5F, 0x2C5F), (0xA7AE, 0xA7AE)),
        *((0xA7B2, 0xA7F6), (0xAB70, 0xABBF), (0x104B0, 0x10CF2)),
    )
    for number in range(first, last + 1)
)


class PatternError(ValueError):
    """Says why a pattern is refused, and where in it."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """``prefix`` is what every match of the string begins with; ``re2`` is None where that says all there is to say."""

    re2: str | None
    prefix: str


@dataclass(frozen=True, slots=True)
class _Char:
    text: str


@dataclass(frozen=True, slots=True)
class _Piece:
    """Something that is written the same wherever it stands: a set of characters, or (``width`` 0) an edge."""

    text: str
    width: int


@dataclass(frozen=True, slots=True)
class _Edge:
    """Where a line begins or ends: what it becomes depends on what follows."""

    kind: str  # ^ or $
    multiline: bool
    at: int


@dataclass(frozen=True, slots=True)
class _Repeat:
    node: _Node
    least: int
    most: int | None
    text: str


@dataclass(frozen=True, slots=True)
class _Sequence:
    nodes: tuple[_Node, ...]


@dataclass(frozen=True, slots=True)
class _Choice:
    nodes: tuple[_Node, ...]


_Node: TypeAlias = _Char | _Piece | _Edge | _Repeat | _Sequence | _Choice


def translate(pattern: str, options: str = "") -> Pattern:
    r"""The pattern for RE2.

    >>> translate("^http://a")
    Pattern(re2=None, prefix='http://a')
    >>> print(translate("cat$", "i").re2)
    (?:C|c)(?:A|a)(?:T|t)\n?\z

    Raises:
        PatternError: it is no pattern, or none that RE2 matches as PCRE does.
    """
    if len(pattern) > MAX_LENGTH:
        raise PatternError(f"has {len(pattern):,} characters, at most {MAX_LENGTH:,} are taken")
    flags = set(options)
    start = 0
    if leading := _LEADING.match(pattern):
        flags |= set(leading[1])
        start = leading.end()
    node = _Parser(pattern, start).whole(frozenset(flags))
    written = _write(node, True, 0)
    try:
        pc.match_substring_regex(pa.array([""]), written)
    except pa.ArrowInvalid as error:
        raise PatternError(f"is not for RE2: {str(error).removeprefix('Invalid regular expression: ')}") from None
    prefix, whole = _prefix(node)
    return Pattern(None if whole else written, prefix)


class _Parser:
    def __init__(self, pattern: str, at: int) -> None:
        self.pattern = pattern
        self.at = at
        self.depth = 0
        self.names: set[str] = set()  # of groups

    def whole(self, flags: frozenset[str]) -> _Node:
        node = self.choice(flags)
        if self.at < len(self.pattern):
            raise self.error("has a closing parenthesis too many")
        return node

    def error(self, problem: str, at: int | None = None) -> PatternError:
        return PatternError(f"{problem} at character {self.at if at is None else at}")

    def choice(self, flags: frozenset[str]) -> _Node:
        branches = [self.sequence(flags)]
        while self.pattern.startswith("|", self.at):
            self.at += 1
            branches.append(self.sequence(flags))
        return branches[0] if len(branches) == 1 else _Choice(tuple(branches))

    def sequence(self, flags: frozenset[str]) -> _Node:
        nodes: list[_Node] = []
        while self.at < len(self.pattern) and self.pattern[self.at] not in "|)":
            atom = self.atom(flags)
            nodes.extend(atom)
            if found := _QUANTIFIER.match(self.pattern, self.at):
                if not atom:
                    raise self.error("repeats an empty quotation")
                nodes.append(self.repeat(nodes.pop(), found))
        return nodes[0] if len(nodes) == 1 else _Sequence(tuple(nodes))

    def repeat(self, node: _Node, found: re.Match[str]) -> _Node:
        if isinstance(node, _Edge) or (isinstance(node, _Piece) and not node.width):
            raise self.error("repeats what has no length")
        self.at = found.end()
        following = self.pattern[self.at : self.at + 1]
        if following in ("*", "+") or (following == "{" and _QUANTIFIER.match(self.pattern, self.at)):
            raise self.error("has possessive or double quantifiers, which RE2 has not,")
        lazy = following == "?"
        self.at += lazy
        if found[1] is None:
            least, most = {"*": (0, None), "+": (1, None), "?": (0, 1)}[found[0]]
        else:
            least = int(found[1])
            most = least if found[2] is None else int(found[3]) if found[3] else None
        if most is None and not _width(node):
            raise self.error("repeats without end what may be empty, of which PCRE misses matches,")
        return _Repeat(node, least, most, found[0] + "?" * lazy)

    def atom(self, flags: frozenset[str]) -> list[_Node]:
        start = self.at
        letter = self.pattern[start]
        self.at += 1
        match letter:
            case "(":
                return [self.group(flags, start)]
            case "[":
                return [self.brackets("i" in flags)]
            case "\\":
                return self.escape(flags)
            case ".":
                return [_Piece("(?s:.)" if "s" in flags else r"[^\n]", 1)]
            case "^" | "$":
                return [_Edge(letter, "m" in flags, start)]
            case "*" | "+" | "?":
                raise self.error(f"repeats nothing by {letter}", start)
            case "{":
                raise self.error("has a brace that is no quantifier (write \\{)", start)
            case "\0":
                raise self.error("has a NUL character", start)
            case _:
                return [_literal(letter, "i" in flags)]

    def group(self, flags: frozenset[str], start: int) -> _Node:
        if self.pattern.startswith("?", self.at):
            found = _GROUP.match(self.pattern, start)
            if found is None:
                raise self.error("has a group that RE2 has not, or flags in the middle (write (?i:...)),", start)
            if name := found["name"]:
                if name in self.names or len(name) > _MAX_NAME:
                    problem = f"has a group whose name is there twice, or has over {_MAX_NAME} characters,"
                    raise self.error(problem, start)
                self.names.add(name)
            self.at = found.end()
            flags = (flags | set(found["on"] or "")) - set(found["off"] or "")
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise self.error(f"has more than {MAX_DEPTH} groups inside each other", start)
        node = self.choice(flags)
        if not self.pattern.startswith(")", self.at):
            raise self.error("has a group that is not closed", start)
        self.at += 1
        self.depth -= 1
        return _Choice((node,))

    def escape(self, flags: frozenset[str]) -> list[_Node]:
        start = self.at - 1
        letter = self.pattern[self.at : self.at + 1]
        if letter == "Q":
            end = self.pattern.find("\\E", self.at)
            text = self.pattern[self.at + 1 : end if end >= 0 else None]
            self.at = end + 2 if end >= 0 else len(self.pattern)
            return [_literal(one, "i" in flags) for one in text]
        if letter == "Z":
            self.at += 1
            return [_Edge("$", False, start)]
        if letter in _EDGES and letter:
            self.at += 1
            return [_Piece(_EDGES[letter], 0)]
        if letter in _SETS and letter:
            self.at += 1
            return [_Piece(f"[{_SETS[letter]}]", 1)]
        return [_literal(self.character(start), "i" in flags)]

    def character(self, start: int) -> str:
        r"""The character behind a backslash."""
        letter = self.pattern[self.at : self.at + 1]
        if not letter:
            raise self.error("ends with a backslash", start)
        self.at += 1
        if letter in _CONTROLS:
            return _CONTROLS[letter]
        if letter == "x":
            found = re.compile(r"([0-9A-Fa-f]{2})|\{([0-9A-Fa-f]{1,6})\}").match(self.pattern, self.at)
            if found is None:
                raise self.error("has a \\x without two digits or {...}", start)
            self.at = found.end()
            number = int(found[1] or found[2], 16)
            if number > 0x10FFFF or 0xD800 <= number < 0xE000:
                raise self.error("has a number that is no character", start)
            return chr(number)
        if letter.isascii() and letter.isalnum():
            raise self.error(f"has \\{letter}, which is not supported,", start)
        return letter

    def brackets(self, folds: bool) -> _Node:
        start = self.at - 1
        if self.pattern.startswith(":", self.at) and ":]" in self.pattern[self.at :]:
            raise self.error("has a named set outside of brackets (write [[:alpha:]])", start)
        inverted = self.pattern.startswith("^", self.at)
        self.at += inverted
        parts: list[str] = []
        while not self.pattern.startswith("]", self.at) or not parts:
            if self.at >= len(self.pattern):
                raise self.error("has a bracket that is not closed", start)
            low = high = self.member()
            if self.pattern.startswith("-", self.at) and not self.pattern.startswith("-]", self.at):
                self.at += 1
                high = self.member()
                if len(low) > 1 or len(high) > 1:
                    raise self.error("has a range whose end is a set (write \\-)", start)
                if high < low:
                    raise self.error("has a range that goes backwards", start)
            if len(low) > 1:  # PCRE takes only these two for letters of either case
                parts.append(low.replace("lower:]", "alpha:]").replace("upper:]", "alpha:]") if folds else low)
            else:
                parts.append(_quoted(low) if low == high else f"{_quoted(low)}-{_quoted(high)}")
                parts += [_quoted(other) for other in _other_cases(low, high)] if folds else []
        self.at += 1
        return _Piece(f"[^{''.join(parts)}]" if inverted else _any(parts), 1)

    def member(self) -> str:
        """A character between brackets, or (longer) a set of them."""
        start = self.at
        letter = self.pattern[start : start + 1]
        self.at += 1
        if letter == "[" and self.pattern[self.at : self.at + 1] in (":", ".", "="):
            found = re.compile(r":(\^?)([a-z]+):\]").match(self.pattern, self.at)
            if found is None or found[2] not in _NAMED:
                raise self.error("has a named set that there is not", start)
            self.at = found.end()
            return f"[{found[0]}"
        if letter == "\0":
            raise self.error("has a NUL character", start)
        if letter != "\\":
            return letter
        name = self.pattern[self.at : self.at + 1]
        if name in _SETS and name:
            self.at += 1
            return _SETS[name]
        if name == "b":
            self.at += 1
            return "\b"
        return self.character(start)


def _literal(letter: str, folds: bool) -> _Node:
    cases = _cases().get(letter, letter) if folds else letter
    return _Char(letter) if len(cases) == 1 else _Piece(_any(cases), 1)


def _any(parts: Iterable[str]) -> str:
    """One character of those, as RE2 does not take for a letter of either case."""
    match sorted(set(parts)):
        case [upper, lower] if upper.isascii() and upper.isalpha() and upper.lower() == lower:
            return f"(?:{upper}|{lower})"
    return f"[{''.join(parts)}]"


def _other_cases(low: str, high: str) -> list[str]:
    """The letters outside of a range that are another case of one inside."""
    others = {other for letter, cases in _cases().items() if low <= letter <= high for other in cases}
    return sorted(other for other in others if not low <= other <= high)


@cache
def _cases() -> dict[str, str]:
    """Of each letter that has several cases all of them, as PCRE 8.42 (MongoDB 6) has them."""
    groups: dict[str, str] = {}
    for letter in map(chr, chain(range(0xD800), range(0xE000, _LETTERS))):
        if letter in _ALONE:
            continue
        key = letter
        for change in (str.lower, str.upper):
            key = change(key) if len(change(key)) == 1 else key
        groups[key] = groups.get(key, "") + letter
    return {letter: group for group in groups.values() if len(group) > 1 for letter in group}


def _quoted(letter: str) -> str:
    if letter.isalnum() or ord(letter) >= 0xA0 or letter == " ":
        return letter
    return f"\\{letter}" if letter.isprintable() else f"\\x{{{ord(letter):x}}}"


def _width(node: _Node) -> int:
    """The least number of characters that a match of ``node`` has."""
    match node:
        case _Char():
            return 1
        case _Piece(width=width):
            return width
        case _Edge():
            return 0
        case _Repeat(child, least):
            return least * _width(child)
        case _Sequence(nodes):
            return sum(map(_width, nodes))
        case _Choice(nodes):
            return min(map(_width, nodes))


def _write(node: _Node, last: bool, following: int) -> str:
    """``node`` for RE2; ``last``: nothing comes after it; ``following``: at least so many characters do."""
    match node:
        case _Char(text):
            return _quoted(text)
        case _Piece(text):
            return text
        case _Edge("^", multiline, at):
            if not multiline:
                return r"\A"
            if not following:
                raise PatternError(f"has a ^ with the flag m that nothing has to follow, at character {at}")
            return "(?m:^)"
        case _Edge(_, multiline, at):
            if multiline:
                return "(?m:$)"
            if not last:
                raise PatternError(f"has a $ before its end, which RE2 takes for another place, at character {at}")
            return r"\n?\z"
        case _Repeat(child, _, most, text):
            inner = _write(child, last and most == 1, following)
            return (inner if isinstance(child, _Char | _Piece) else f"(?:{inner})") + text
        case _Sequence(nodes):
            written: list[str] = []
            for child in reversed(nodes):
                written.append(_write(child, last and not written, following))
                following += _width(child)
            return "".join(reversed(written))
        case _Choice((child,)):  # without parentheses: DuckDB 2.0 finds only the empty string by \A(?:)
            return _write(child, last, following)
        case _Choice(nodes):
            return f"(?:{'|'.join(_write(child, last, following) for child in nodes)})"


def _prefix(node: _Node) -> tuple[str, bool]:
    """What every match begins with, and whether every string that begins so matches."""
    if not isinstance(node, _Sequence) or not node.nodes or not _is_start(node.nodes[0]):
        return "", False
    prefix = ""
    for number, child in enumerate(node.nodes[1:], 1):
        if not isinstance(child, _Char):
            rest = node.nodes[number:]
            return prefix, all(isinstance(one, _Repeat) and one.least == 0 for one in rest)
        prefix += child.text
    return prefix, True


def _is_start(node: _Node) -> bool:
    return node == _Piece(r"\A", 0) or (isinstance(node, _Edge) and node.kind == "^" and not node.multiline)
