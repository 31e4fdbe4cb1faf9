"""Reads a rulebook: words and phrases in YAML that somebody who does not program can read and correct.

A pattern is an RE2 expression with five conveniences, so that the usual ways round a word list cost nothing to close:

- it matches whole words and ignores case;
- a space stands for any run of white space and punctuation ("ignore **all**", "ignore\\nall", "ignore, all"), and an
  underscore is read as a space;
- `<3>` between two spaces stands for up to three further words of the same sentence;
- an apostrophe may be typographic or missing, and an accented letter may have lost its accent;
- `{name}` stands for the word list of that name.

A long pattern is written as a block: line breaks in it, and white space at either end of a line, mean nothing.

One automaton over all rules looks for their `anchors`, stems of which any text that a rule could match contains one
(a rule without them is its own anchor); a rule's patterns are looked for only in a text that has an anchor of it. Long
patterns in one automaton would be as quick on ordinary text, and ten times slower on one made to visit all its states.

A rule fires where one of its patterns occurs, all its `needs` hold and none of its `unless` does. Those two look only
at the neighbourhood of the occurrence (`around` includes the occurrence itself): `unless` stays within the sentence,
because it makes the rule blind, and `needs` does not, because a full stop must not.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import yaml

from guardproxy.errors import ConfigError
from guardproxy.patterns import PatternSet

_MARKS = r"\s[:punct:]\x{A0}\x{A1}\x{AB}\x{B7}\x{BB}\x{BF}\x{2010}-\x{2027}\x{2030}-\x{205E}\x{3001}-\x{3011}"
_GAP = f"(?:[{_MARKS}]+)"
_SOFT_GAP = r"[\s,;:()\[\]{}<>|/\\\"'*_~`#=+\x{2010}-\x{201F}-]+"  # holds no end of a sentence
_FURTHER = f"(?:[^{_MARKS}]+{_SOFT_GAP})"
_LETTER = r"[\w\x{C0}-\x{24F}\x{400}-\x{45F}]"  # RE2's \w is ASCII alone
_APOSTROPHE = r"['\x{2018}\x{2019}\x{2BC}`]?"
_MOST_FURTHER = 8
_MOST_WITHIN = 200  # characters; more would make a flood of occurrences expensive
_PLACES = ("before", "after", "around")
_CARD = {"name", "version", "check", "languages", "summary", "limits"}
_RULE = {"id", "label", "score", "languages", "anchors", "patterns", "needs", "unless", "whole_words"}
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, slots=True)
class Condition:
    """Whether some pattern occurs within `within` characters before, after or around an occurrence."""

    place: str
    within: int
    patterns: PatternSet


@dataclass(frozen=True, slots=True)
class PhraseRule:
    """One rule of a book. `patterns` is a set of one."""

    id: str
    label: str
    score: float
    languages: tuple[str, ...]
    patterns: PatternSet
    whole_words: bool = True
    needs: tuple[Condition, ...] = ()
    unless: tuple[Condition, ...] = ()


@dataclass(frozen=True, slots=True)
class Rulebook:
    """A compiled rulebook. Anchor n is that of rules[n]. `sha256` is of the file's bytes."""

    check: str
    card: Mapping[str, Any]
    union: str
    labels: Mapping[str, str]
    rules: tuple[PhraseRule, ...]
    anchors: PatternSet
    sha256: str


def parse(data: bytes, name: str, *, proven: bool = False) -> Rulebook:
    """The rulebook in `data`; `name` is what error messages call it. Raises ConfigError.

    `proven`: the patterns of its rules are known to be good (tests have compiled them), and are compiled when needed.
    """
    try:
        document = yaml.load(data, Loader=_LOADER)  # noqa: S506  (a safe loader, the C one where there is one)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise ConfigError(f"rulebook {name}: not YAML" + (f", line {mark.line + 1}" if mark else "")) from None
    return _Compiler(name, proven).book(document, sha256(data).hexdigest())


@dataclass(slots=True)
class _Compiler:
    """Turns one document into a Rulebook; every error names the book and, where there is one, the rule."""

    name: str
    proven: bool
    words: dict[str, str] = field(default_factory=dict)
    exceptions: dict[str, tuple[Condition, ...]] = field(default_factory=dict)

    def book(self, document: Any, digest: str) -> Rulebook:
        self._known(document, {"card", "union", "labels", "words", "exceptions", "rules"}, "the book")
        card = document.get("card")
        self._known(card, _CARD, "card")
        if missing := _CARD - set(card):
            raise self._wrong("card", f"lacks {', '.join(sorted(missing))}")
        labels = {str(label): str(text) for label, text in (document.get("labels") or {}).items()}
        if document.get("union") not in labels:
            raise self._wrong("union", "is not one of the labels")
        for word, value in (document.get("words") or {}).items():
            if "| " in str(value):  # a folded block (>-) puts it there, and would ask every text for it
                raise self._wrong(f"words.{word}", "has white space behind a bar; write the list as a block with |-")
            self.words[word] = self._pattern(value, f"words.{word}")
        for key, conditions in (document.get("exceptions") or {}).items():
            self.exceptions[key] = tuple(self._conditions(conditions, f"exceptions.{key}"))
        rules, anchors = self._rules(document.get("rules"), labels)
        return Rulebook(
            str(card["check"]),
            card,
            document["union"],
            labels,
            rules,
            self._set(anchors, "anchors", lazy=False),
            digest,
        )

    def _rules(self, entries: Any, labels: Mapping[str, str]) -> tuple[tuple[PhraseRule, ...], list[str]]:
        rules: dict[str, PhraseRule] = {}
        anchors: list[str] = []
        for entry in entries or ():
            rule = self._rule(entry, labels)
            if rule.id in rules:
                raise self._wrong(rule.id, "is there twice")
            rules[rule.id] = rule
            own = "anchors" in entry
            anchors.append(self._pattern(entry["anchors"], rule.id) if own else rule.patterns.patterns[0])
        if not rules:
            raise self._wrong("rules", "is empty")
        return tuple(rules.values()), anchors

    def _rule(self, entry: Any, labels: Mapping[str, str]) -> PhraseRule:
        self._known(entry, _RULE, "a rule")
        key = str(entry.get("id", "a rule without an id"))
        score = entry.get("score")
        if entry.get("label") not in labels:
            raise self._wrong(key, "has a label that the book does not define")
        if isinstance(score, bool) or not isinstance(score, (int, float)) or not 0 < score <= 1:
            raise self._wrong(key, "needs a score above 0, at most 1")
        if not entry.get("patterns") or not entry.get("languages"):
            raise self._wrong(key, "needs patterns and languages")
        whole = bool(entry.get("whole_words", True))
        # One expression a rule: its occurrences come in order and do not overlap.
        pattern = self._pattern(entry["patterns"], key, r"\b" if whole else "")
        return PhraseRule(
            key,
            entry["label"],
            float(score),
            tuple(entry["languages"]),
            self._set([pattern], key),
            whole,
            tuple(self._conditions(entry.get("needs"), key)),
            tuple(self._conditions(entry.get("unless"), key)),
        )

    def _conditions(self, entries: Any, key: str) -> Iterable[Condition]:
        for entry in entries or ():
            if isinstance(entry, str):
                if entry not in self.exceptions:
                    raise self._wrong(key, f"names an unknown exception {entry}")
                yield from self.exceptions[entry]
                continue
            self._known(entry, {*_PLACES, "within"}, key)
            places = [place for place in _PLACES if place in entry]
            within = entry.get("within", 40)
            if len(places) != 1 or not isinstance(within, int) or not 0 < within <= _MOST_WITHIN:
                raise self._wrong(key, f"a condition has one of {', '.join(_PLACES)}, and within 1 to {_MOST_WITHIN}")
            pattern = self._pattern(entry[places[0]], key)
            yield Condition(places[0], within, self._set([pattern], key))

    def _pattern(self, value: Any, key: str, bounds: str = "") -> str:
        """One RE2 expression for a pattern or a list of them, each within `bounds` where it begins or ends in ASCII."""
        each = [value] if isinstance(value, str) else value
        if not isinstance(each, list) or not all(isinstance(item, str) and item for item in each):
            raise self._wrong(key, "is neither a pattern nor a list of patterns")
        compiled = [self._bounded(self._expand(_unbroken(item), key), bounds) for item in each]
        return compiled[0] if len(compiled) == 1 else "|".join(compiled)

    @staticmethod
    def _bounded(pattern: str, bounds: str) -> str:
        # RE2's \b knows ASCII letters only: where a pattern may begin or end in another letter the engine's own look at
        # the neighbouring characters must do.
        return f"{bounds}(?:{pattern}){bounds}" if bounds and pattern.isascii() else f"(?:{pattern})"

    def _expand(self, pattern: str, key: str) -> str:
        pieces: list[str] = []
        at = 0
        while at < len(pattern):
            char = pattern[at]
            if char == "\\":
                pieces.append(_LETTER if pattern[at + 1 : at + 2] == "w" else pattern[at : at + 2])
                at += 2
                continue
            end = pattern.find("}", at) if char == "{" and pattern[at + 1 : at + 2].isalpha() else -1
            if char == " " and pattern[at + 1 : at + 2] == "<" and pattern[at + 3 : at + 5] == "> ":
                pieces.append(self._further(pattern[at + 2], key))
                at += 5
            elif char == "[":  # a class is written as RE2 has it
                close = _class_end(pattern, at)
                pieces.append(pattern[at:close])
                at = close
            elif end > 0:
                pieces.append(self._word(pattern[at + 1 : end], key))
                at = end + 1
            else:
                pieces.append(_character(char))
                at += 1
        return "".join(pieces)

    def _further(self, count: str, key: str) -> str:
        if not count.isdigit() or not 0 < int(count) <= _MOST_FURTHER:
            raise self._wrong(key, f"<{count}> is not a number of words from 1 to {_MOST_FURTHER}")
        return f"(?:{_GAP}|{_SOFT_GAP}{_FURTHER}{{1,{count}}})"

    def _word(self, word: str, key: str) -> str:
        if word not in self.words:
            raise self._wrong(key, f"names unknown words {word}")
        return f"(?:{self.words[word]})"

    def _set(self, patterns: list[str], key: str, *, lazy: bool | None = None) -> PatternSet:
        try:
            return PatternSet(patterns, ignore_case=True, lazy=self.proven if lazy is None else lazy)
        except ConfigError as error:
            raise self._wrong(key, str(error)) from None

    def _known(self, entry: Any, keys: set[str], key: str) -> None:
        if not isinstance(entry, dict):
            raise self._wrong(key, "is not a mapping")
        if unknown := set(map(str, entry)) - keys:
            raise self._wrong(key, f"does not know {', '.join(sorted(unknown))}")

    def _wrong(self, key: str, what: str) -> ConfigError:
        return ConfigError(f"rulebook {self.name}: {key} {what}")


def _unbroken(pattern: str) -> str:
    return "".join(line.strip() for line in pattern.split("\n")) if "\n" in pattern else pattern


def _class_end(pattern: str, at: int) -> int:
    """Behind the character class that opens at `at`; RE2 itself says so if it never closes."""
    at += 2 if pattern[at + 1 : at + 2] == "^" else 1
    at += pattern[at : at + 1] == "]"
    while at < len(pattern) and pattern[at] != "]":
        if pattern[at] == "\\":
            at += 2
        elif pattern.startswith("[:", at):
            at = pattern.find(":]", at) + 2 or len(pattern)
        else:
            at += 1
    return at + 1


def _character(char: str) -> str:
    if char == " ":
        return _GAP
    if char == "_":
        return " "  # as which the engine reads it
    if char == "'":
        return _APOSTROPHE
    if char.isascii():
        return char
    bare = unicodedata.normalize("NFD", char)[0]
    return f"[{char}{bare}]" if bare != char and bare.isascii() else char
