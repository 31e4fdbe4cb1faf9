"""The vocabulary. Everything else speaks in these types; this module imports nothing of ours.

All are immutable values. Offsets are code points, half-open, and count in the text that the name says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, IntEnum, StrEnum


class Mark(Enum):
    """Steps of a Path that are neither a member name nor an index."""

    JSON = "json"  # enter the JSON document that the string at this place contains
    KEY = "key"  # the member's name itself, rather than its value (last step only)


Step = str | int | Mark
Path = tuple[Step, ...]
"""A place in a JSON document, e.g. ("messages", 0, "content")."""


class Side(StrEnum):
    """Which way the traffic goes."""

    REQUEST = "request"
    RESPONSE = "response"


class Scope(StrEnum):
    """What a text is, for the policy's `where`."""

    PROMPT = "prompt"
    COMPLETION = "completion"
    TOOL_CALL = "tool_call"
    TOOL_RESULT = "tool_result"
    TOOL_DEFINITION = "tool_definition"


class Outcome(StrEnum):
    """How a check ended. Only OK and DEGRADED are answers; the others are for the policy to decide on."""

    OK = "ok"
    DEGRADED = "degraded"  # answered, from a lower rung of the ladder
    ABSTAINED = "abstained"  # cannot judge this text, and says why
    TIMEOUT = "timeout"
    ERROR = "error"


ANSWERS = frozenset({Outcome.OK, Outcome.DEGRADED})


class Action(IntEnum):
    """What is done with an exchange; the strictest of all rules wins."""

    ALLOW = 0
    REWRITE = 1
    BLOCK = 2


@dataclass(frozen=True, slots=True)
class Piece:
    """Where the stretch [start, end) of a segment's text stands in the document, for a segment that joins several.

    `literal` says that the place is a number or the like, to be replaced as a whole.
    """

    start: int
    end: int
    path: Path
    literal: bool = False


@dataclass(frozen=True, slots=True)
class Segment:
    """One text found in a document.

    With `pieces`, the text was put together from several places (the leaves of a tool call's arguments, say), and what
    lies between the pieces exists nowhere in the document. Without, the whole text is the string at `path`.
    `echo` is a place that repeats this text in another form (token log-probabilities) and is emptied if it is edited.
    """

    channel: str  # texts of one channel continue each other in a stream, e.g. "choices.0.content"
    path: Path
    role: str  # system, developer, user, assistant, tool; "" where the API has none
    scope: Scope
    text: str
    pieces: tuple[Piece, ...] = ()
    echo: Path | None = None


@dataclass(frozen=True, slots=True)
class Window:
    """The stretch of a segment that is judged at once. See windows.py for how they are cut.

    `text` is the segment's [context_start, end). Findings count in [start, end); what is before is context. Once this
    window is decided, everything before `release` may be delivered; the next window starts there. `history` is, for a
    text that still grows, all of it so far and perhaps more, in pieces: up to `end` it is what has come before this
    window and with it.
    """

    segment: Segment
    context_start: int
    start: int
    end: int
    release: int
    text: str
    history: Sequence[str] = field(default=(), repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Finding:
    """Something found at [start, end), with a calibrated probability (or a rule's confidence) in [0, 1]."""

    label: str
    start: int
    end: int
    score: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one check says of one window.

    Findings count in the window's segment. `scores` are by label, for the window as a whole; a label may have a score
    and no finding, as a classifier's has.
    """

    check: str
    outcome: Outcome = Outcome.OK
    findings: tuple[Finding, ...] = ()
    scores: Mapping[str, float] = field(default_factory=dict)
    reason: str = ""  # why the outcome is not OK: a word or a few, never content
    backend: str = ""  # name@version of what answered
    elapsed: float = 0.0  # seconds; 0 where not measured


@dataclass(frozen=True, slots=True)
class Edit:
    """Replaces [start, end) of the string at `path`.

    `method` and `label` say how and for what; `replacement` is final only once enforce.resolve() has been over it (a
    hash needs a key and a pseudonym a vault, and evaluate() is pure). `literal`: the place is not a string; replace
    all of it.
    """

    path: Path
    start: int
    end: int
    replacement: str
    method: str = "replace"
    label: str = ""
    literal: bool = False
    value: str = field(default="", repr=False)  # what stood there, for methods that depend on it


@dataclass(frozen=True, slots=True)
class Escalation:
    """A rule's wish that somebody larger judges this text. `meanwhile` holds until the judge has answered."""

    rule: str
    judge: str
    meanwhile: Action
    question: str
    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Decision:
    """What the policy says of some windows. Combine several with policy.evaluate.combine()."""

    action: Action
    policy: str  # name@version+hash
    rules: tuple[str, ...] = ()  # the rules that applied, flags included
    edits: tuple[Edit, ...] = ()
    escalations: tuple[Escalation, ...] = ()
    would: tuple[str, ...] = ()  # the shadow rules that would have applied, as "rule:action"


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request and its response. `id` is also the decision id that callers see in a header."""

    id: str
    route: str
    model: str = ""
    tenant: str = ""
    session: str = ""
    stream: bool = False
    started: float = 0.0  # time.monotonic()
