"""Reads a check's options from plain YAML values, once, when the policy is loaded.

Every mistake is a PolicyError that names the option by its path in the policy (`checks.url.allow`). A key that nobody
reads is a mistake too: an author who misspells an option must not believe that it holds.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

from guardproxy.errors import PolicyError

T = TypeVar("T")


class OptionReader:
    """Typed access to one mapping of options; `at` is its path in the policy, e.g. "checks.url"."""

    __slots__ = ("_at", "_options")

    def __init__(self, options: Any, at: str, known: Collection[str]) -> None:
        """Raises PolicyError if `options` is no mapping or has a key that is not in `known`."""
        self._at = at
        if options is None:
            options = {}
        if not isinstance(options, Mapping):
            raise PolicyError(f"{at}: expected a mapping of options, not {kind(options)}")
        for key in options:
            if key not in known:
                raise PolicyError(f"{at}.{key}: unknown option{did_you_mean(str(key), known)}")
        self._options = options

    def fail(self, name: str, problem: str) -> PolicyError:
        """The error for option `name`, to be raised by the caller."""
        return PolicyError(f"{self._at}.{name}: {problem}" if name else f"{self._at}: {problem}")

    def has(self, name: str) -> bool:
        """Whether the option is written; an empty value (null) counts as not written."""
        return self._options.get(name) is not None

    def flag(self, name: str, default: bool) -> bool:
        """True or false."""
        return self._typed(name, bool, "true or false", default)

    def text(self, name: str, default: str = "") -> str:
        """A string."""
        return self._typed(name, str, "a string", default)

    def choice(self, name: str, choices: Collection[str], default: str) -> str:
        """One of a few words."""
        value = self.text(name, default)
        if value not in choices:
            raise self.fail(name, f"expected one of {', '.join(choices)}{did_you_mean(value, choices)}")
        return value

    def count(self, name: str, default: int) -> int:
        """A whole number from 1 on; `default` need not be one."""
        value: int = self._typed(name, int, "a whole number", default)
        if self.has(name) and (isinstance(value, bool) or value < 1):
            raise self.fail(name, "expected a whole number from 1 on")
        return value

    def score(self, name: str, default: float) -> float:
        """A number above 0, up to 1."""
        value = self._options.get(name)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
            raise self.fail(name, "expected a score: a number above 0, up to 1")
        return float(value)

    def strings(self, name: str) -> tuple[str, ...]:
        """A list of non-empty strings."""
        value = self._options.get(name)
        if value is None:
            return ()
        if not isinstance(value, list | tuple):
            raise self.fail(name, f"expected a list of strings, not {kind(value)}")
        for number, item in enumerate(value, 1):
            if not isinstance(item, str):
                hint = "; put it in quotes" if isinstance(item, bool | int | float) else ""
                raise self.fail(name, f"entry {number}: expected a string, not {kind(item)}{hint}")
            if not item.strip():
                raise self.fail(name, f"entry {number} is empty")
        return tuple(value)

    def mapping(self, name: str) -> Mapping[str, Any]:
        """A mapping whose keys are strings."""
        value: Mapping[Any, Any] = self._typed(name, dict, "a mapping", {})
        for key in value:
            if not isinstance(key, str) or not key.strip():
                raise self.fail(name, f"expected names as keys, not {kind(key)}; put it in quotes")
        return value

    def file(self, name: str) -> Path | None:
        """A file that exists and can be read, or None where the option is not written."""
        value = self.text(name)
        if not value:
            return None
        path = Path(value).expanduser()
        if not path.is_file():
            raise self.fail(name, "no such file")
        return path

    def _typed(self, name: str, wanted: type[T], words: str, default: T) -> T:
        value = self._options.get(name)
        if value is None:
            return default
        if not isinstance(value, wanted) or (isinstance(value, bool) and wanted is not bool):
            raise self.fail(name, f"expected {words}, not {kind(value)}")
        return value


def kind(value: object) -> str:
    """What a YAML value is, in a policy author's words; never the value itself."""
    names = ((bool, "true or false"), (int | float, "a number"), (str, "a string"), (list | tuple, "a list"))
    if value is None:
        return "nothing"
    return next((word for types, word in names if isinstance(value, types)), "a mapping")


def did_you_mean(word: str, known: Collection[str]) -> str:
    """A suggestion to end an error message with, or "" if nothing known is near."""
    near = get_close_matches(word, known, n=1)
    return f"; did you mean {near[0]}?" if near else ""
