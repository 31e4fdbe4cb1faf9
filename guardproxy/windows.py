"""Cuts text into windows: always the same for the same text, however it arrives.

- A cut is decided by the text before it alone, so that a stream can be cut while it arrives. It falls behind a
  sentence's end, else behind white space, else, where neither comes in time, inside a word.
- Windows of what a model says start small, so that the first words of a stream leave early, and grow fourfold up to
  LARGEST. What is sent to it never comes in pieces, and is cut in large ones from the start.
- The end of a window is not released with it: at least HOLDBACK characters, and the whole of the token they begin in,
  are judged again as the start of the next window. So what straddles a cut is found if it is one token of at most
  TOKEN characters, or any phrase of at most HOLDBACK.
- A private key in PEM armour is not cut, up to BLOCK characters: its lines say nothing without the first one.
- Up to CONTEXT characters before a window go with it, for the checks to read and not to report on.
"""

from __future__ import annotations

import re

from guardproxy.types import Scope, Segment, Window

SMALLEST = 64
LARGEST = 1024
GROWTH = 4
SLACK = 256  # how far beyond its wanted size a window may go to end well; half its size at most
HOLDBACK = 48
TOKEN = 512
BLOCK = 8192
CONTEXT = 256
GROWING = frozenset({Scope.COMPLETION, Scope.TOOL_CALL})  # what may come as a stream

# Scripts without spaces between words start here (CJK radicals): each of their characters is a token of its own.
_BREAK = re.compile(r"[\s\u2e80-\U0010ffff]")
_SENTENCE = re.compile(r"[.!?…:;]['\")\]]?\s|\n|[。！？；]")
_ARMOUR = re.compile(r"-----BEGIN (?:[A-Z ]{0,32}PRIVATE KEY|[A-Z ]{0,40}\Z)")
_ARMOUR_START, _ARMOUR_END = "-----BEGIN ", "-----END "


class Windower:
    """Cuts one channel's text as it grows: feed() gives the windows that are complete, finish() the rest.

    Positions count from the start of the channel; only the text that later windows still need is kept in one string.
    """

    __slots__ = (
        "_base",
        "_end",
        "_fresh",
        "_history",
        "_length",
        "_low",
        "_release",
        "_seen",
        "_segment",
        "_size",
        "_text",
        "_wanted",
    )

    def __init__(self, segment: Segment) -> None:
        """`segment` says what the text is; its own text is not read."""
        self._segment = segment
        self._text = ""  # what is kept, joined
        self._fresh: list[str] = []  # what came since
        self._history: list[str] = []  # all of it
        self._base = 0  # position of the kept text's first character
        self._length = 0  # of all text so far
        self._end = 0  # of the last window
        self._release = 0  # of the last window
        self._size = SMALLEST if segment.scope in GROWING else LARGEST
        self._wanted = self._size  # no cut is possible before the text is this long
        self._low = 0  # where the next window may end at the earliest, once that is known
        self._seen = 0  # no sentence ends between there and here

    @property
    def length(self) -> int:
        """Characters fed so far."""
        return self._length

    def feed(self, text: str) -> list[Window]:
        """Takes the next text and returns the windows that it completes, in order."""
        self._fresh.append(text)
        self._history.append(text)
        self._length += len(text)
        windows: list[Window] = []
        while self._length >= self._wanted:
            self._join()
            cut = self._cut()
            if cut is None:
                break
            windows.append(self._window(cut, self._hold(cut)))
        return windows

    def finish(self) -> list[Window]:
        """The last window, up to the end of the text; none if everything has been released."""
        self._join()
        if self._release == self._length:
            return []
        return [self._window(self._length, self._length)]

    def _join(self) -> None:
        if self._fresh:
            self._text = "".join((self._text, *self._fresh))
            self._fresh.clear()

    def _cut(self) -> int | None:
        """Where the next window ends; None while the text does not say yet.

        Then `_wanted` says from which length on to ask again, and `_low` and `_seen` what need not be looked at twice.
        """
        if not self._low:
            low = self._armour(self._end + self._size)
            if low is None:
                self._wanted = self._length + 1
                return None
            self._low = self._seen = low
        text, base, low = self._text, self._base, self._low
        high = low + min(self._size // 2, SLACK)
        found = _SENTENCE.search(text, self._seen - base - 1, high - base)
        if found:
            return base + found.end()
        if self._length < high:
            self._wanted, self._seen = self._length + 1, max(self._length - 2, low)
            return None
        for position in range(high, low - 1, -1):
            if _BREAK.match(text, position - base - 1):
                return position
        return high

    def _armour(self, low: int) -> int | None:
        """`low`, or the end of a PEM block that is open there; None while that end has not come."""
        text, start = self._text, self._release - self._base
        if _ARMOUR_START not in text:
            return low
        opened = list(_ARMOUR.finditer(text, start, low - self._base))
        if not opened:
            return low
        found = opened[-1]
        close = text.find(_ARMOUR_END, found.end())
        closed = text.find("\n", close) if close >= 0 else -1
        limit = self._base + found.start() + BLOCK
        if closed >= 0 and self._base + closed < limit:
            return max(low, self._base + closed + 1)
        return max(low, limit) if self._length >= limit else None

    def _hold(self, cut: int) -> int:
        """From where on a window that ends at `cut` is judged again: the start of the token HOLDBACK before its end."""
        latest = max(cut - HOLDBACK, self._release)
        for position in range(latest, max(latest - TOKEN, self._release), -1):
            if _BREAK.match(self._text, position - self._base - 1):
                return position
        return self._release if latest - TOKEN <= self._release else latest

    def _window(self, end: int, release: int) -> Window:
        start, base = self._release, self._base
        context = max(start - CONTEXT, 0)
        if context:
            found = _BREAK.search(self._text, context - base - 1, start - base)
            context = base + found.end() if found else context
        window = Window(
            self._segment, context, start, end, release, self._text[context - base : end - base], self._history
        )
        self._end, self._release = end, release
        self._size = min(self._size * GROWTH, LARGEST)
        self._wanted = end + self._size
        self._low = 0
        keep = max(release - CONTEXT - 1, 0)
        if keep > base + LARGEST:
            self._text, self._base = self._text[keep - base :], keep
        return window


def windows_of(segment: Segment) -> list[Window]:
    """All windows of a complete text; the same that a Windower gives for it in any number of pieces."""
    if len(segment.text) < SMALLEST:
        return [Window(segment, 0, 0, len(segment.text), len(segment.text), segment.text)] if segment.text else []
    windower = Windower(segment)
    return [*windower.feed(segment.text), *windower.finish()]
