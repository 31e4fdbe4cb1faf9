"""Takes the disguises off a text and remembers which original characters stand behind each plain one."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Plain:
    """A normalised text. `starts[i]` and `ends[i]` bound the original characters behind plain character i; empty if equal."""

    text: str
    starts: tuple[int, ...] = ()
    ends: tuple[int, ...] = ()

    def original(self, start: int, end: int) -> tuple[int, int]:
        """The stretch [start, end) of the plain text as a stretch of the original."""
        if not self.starts or start >= end:
            return start, end
        return self.starts[start], self.ends[end - 1]


def normalise(text: str) -> Plain:
    """The text with its disguises off."""
    return Plain(text)
