"""Many patterns over one text: an automaton decides which occur, then those alone are looked for.

RE2 is linear in the text whatever the pattern, so nothing that a policy's author or an attacker writes can hang the
proxy; what RE2 cannot do (look-around, back references) is not accepted. One pattern that always matches is added to
every set: when it is missing from an answer the automaton gave up, which must not be mistaken for "nothing found".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import re2

from guardproxy.errors import BackendError, ConfigError


class PatternSet:
    """Patterns numbered in the order given. Raises ConfigError, with the number, for one that RE2 does not take.

    The automaton is built as texts need it, in at most `max_mem` bytes; the first texts of a process cost more than
    others. `lazy`: nothing is compiled before it is needed, for good patterns that are seldom asked for.
    """

    __slots__ = ("_canary", "_each", "_options", "_set", "patterns")

    def __init__(
        self, patterns: Sequence[str], *, ignore_case: bool = False, max_mem: int = 8 << 20, lazy: bool = False
    ) -> None:
        self._options = re2.Options()
        self._options.case_sensitive = not ignore_case
        self._options.max_mem = max_mem
        self._options.log_errors = False
        self.patterns = tuple(patterns)
        self._each: list[Any] = [None] * len(self.patterns)
        self._set: Any = None
        self._canary = len(self.patterns)
        if not lazy:
            self.compile()

    def compile(self) -> None:
        """Compiles the automaton, if that has not been done."""
        if self._set is not None:
            return
        options = re2.Options()
        for name in re2.Options.NAMES:
            setattr(options, name, getattr(self._options, name))
        options.never_capture = True  # captures would only slow it
        automaton = re2.Set.SearchSet(options)
        for number, pattern in enumerate(self.patterns):
            try:
                automaton.Add(pattern)
            except re2.error:
                self._regexp(number)  # says why
                raise ConfigError(f"pattern {number}: not accepted") from None
        automaton.Add(r"\z")  # the canary: matches once the whole text has been read, and only then
        automaton.Compile()
        self._set = automaton
        self.hits("")  # one too large for its memory fails here

    def hits(self, text: str | bytes) -> list[int]:
        """The numbers of the patterns that occur in `text`, ascending. Raises BackendError if the engine gave up."""
        if self._set is None:
            self.compile()
        found: list[int] | None = self._set.Match(text)
        if found is None or self._canary not in found:
            raise BackendError("the pattern automaton gave up")
        if len(found) == 1:
            return []
        found.remove(self._canary)
        found.sort()
        return found

    def spans(self, number: int, text: str) -> Iterator[tuple[int, int]]:
        """Where pattern `number` occurs in `text`: its group 1 if it has one and that took part, else all of it."""
        regexp = self._regexp(number)
        group = 1 if regexp.groups else 0
        for match in regexp.finditer(text):
            span = match.span(group)
            yield span if span[0] >= 0 else match.span()

    def _regexp(self, number: int) -> Any:
        if self._each[number] is None:
            try:
                self._each[number] = re2.compile(self.patterns[number], self._options)
            except re2.error as error:
                reason = error.args[0].decode() if isinstance(error.args[0], bytes) else error.args[0]
                raise ConfigError(f"pattern {number}: {reason}") from None
        return self._each[number]
