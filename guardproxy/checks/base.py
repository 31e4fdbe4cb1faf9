"""What a check is: a deterministic stage that always runs, and a ladder of backends for what patterns cannot tell.

A check only finds; it never edits, never decides and never looks at another check's answer. The deterministic stage is
synchronous and linear in the text. What it raises, the runner turns into a verdict with outcome `error`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from guardproxy.reading import Reading
from guardproxy.types import Finding, Segment

Options = Mapping[str, Any]
"""A check's own options, from the policy's `checks:` section. Plain YAML values, not validated yet."""


class Abstain(Exception):
    """Raised by a deterministic stage that cannot judge a text; the message is the reason, in a few words, no
    content.
    """


class Check:
    """Base class of the checks; one instance serves a whole worker and holds no state of any request.

    Sub-classes set `name` and `labels`, and override `find`. `options` are validated by the sub-class's __init__,
    which raises PolicyError naming the option.
    """

    name: str = ""
    labels: frozenset[str] = frozenset()
    version: str = "1"
    whole: bool = False  # judges complete texts by find_whole(), and no windows

    def find(self, reading: Reading) -> Sequence[Finding]:
        """The deterministic stage: findings with offsets in `reading.text`. May raise Abstain."""
        return ()

    def find_whole(self, segment: Segment) -> Sequence[Finding]:
        """For a check with `whole`: findings with offsets in the segment's text. May raise Abstain."""
        return ()

    def merged(self, reading: Reading, found: Sequence[Finding], modelled: Sequence[Finding]) -> Sequence[Finding]:
        """The findings of the deterministic stage and of the model stage as one. Both count in the reading's text."""
        return [*found, *modelled]

    def clean(self, reading: Reading) -> bool:
        """True only if find() would find nothing in any part of this text, read by itself. Cheap, or False.

        This is what makes a clean text cost microseconds: one look at all of it, and no windows.
        """
        return False


@dataclass(frozen=True, slots=True)
class CheckSpec:
    """What the policy loader and the command line need to know of a check without building it.

    `open_labels`: a policy may define labels of its own (keywords), so unknown ones are no error. `ladder` is the
    default one; an empty ladder means that the deterministic stage is all there is.
    """

    name: str
    summary: str
    labels: frozenset[str]
    build: Callable[[Options], Check]
    ladder: tuple[str, ...] = ()
    open_labels: bool = False
