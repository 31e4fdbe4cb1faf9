"""A window as the checks read it: the text as it came, and the same text with its disguises taken off.

Obfuscation (zero-width characters, full-width digits, look-alike letters, escapes) must neither hide an entity nor
shift the edit that removes it. So patterns run over `plain`, and what they find is mapped back to the characters that
stood for it.
"""

from __future__ import annotations

from guardproxy.normalise import Plain, normalise
from guardproxy.types import Window


class Reading:
    """One window's text, normalised once for all the checks that read it.

    `tenant`: whose text it is, so that what is remembered of it is never told to another; "" where nobody said.
    """

    __slots__ = ("_data", "_plain", "tenant", "window")

    def __init__(self, window: Window, tenant: str = "") -> None:
        self.window, self.tenant = window, tenant
        self._plain: Plain | None = None
        self._data: bytes | None = None

    @property
    def text(self) -> str:
        """The window's text as it came, context included."""
        return self.window.text

    @property
    def plain(self) -> str:
        """The text without its disguises. The very same object as `text` where there are none."""
        if self._plain is None:
            self._plain = normalise(self.window.text)
        return self._plain.text

    @property
    def data(self) -> bytes:
        """`plain` in UTF-8, for automata that only say what occurs."""
        if self._data is None:
            self._data = self.plain.encode()
        return self._data

    def original(self, start: int, end: int) -> tuple[int, int]:
        """Offsets in `plain` as offsets in `text`, widened to whole original characters."""
        if self._plain is None:
            self._plain = normalise(self.window.text)
        return self._plain.original(start, end)
