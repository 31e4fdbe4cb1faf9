"""How training tells a person where it stands."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

T = TypeVar("T")


class Progress:
    """A bar where somebody watches, a line now and then where the output goes to a file, nothing if `quiet`."""

    def __init__(self, quiet: bool = False) -> None:
        self._console = Console(file=sys.stderr, quiet=quiet)

    def say(self, message: str) -> None:
        """One line."""
        self._console.print(message, highlight=False, markup=False)

    def track(self, items: Sequence[T], what: str) -> Iterator[T]:
        """The items, one by one, with a bar."""
        if not self._console.is_terminal:
            for number, item in enumerate(items):
                if number and number % max(len(items) // 10, 1) == 0:
                    self.say(f"{what}: {number} of {len(items)}")
                yield item
            return
        columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Bar(*columns, console=self._console, transient=True) as bar:
            yield from bar.track(items)
