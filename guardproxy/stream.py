"""StreamGuard: holds a stream of events, says what is to be judged, and releases what has been. Sans-IO.

- Events leave in the order in which they came, and as they came unless their text was edited.
- An event leaves once every text in it has been decided, together with what follows within the holdback (windows.py).
- How the text was split into events changes nothing: windows depend on the text alone, and edits are kept by position
  in a channel and only then shared out to the events.
- So its exposure bound, the most characters that can be delivered undecided, is 0.

The caller's loop: feed() bytes, judge each of tasks(), settle() it, and send what take() returns. After close() the
same once more. A task must be settled before take() can give what depends on it; a blocked stream is simply not asked
any more.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import jiter

from guardproxy.enforce import merge
from guardproxy.errors import WireError
from guardproxy.types import Edit, Mark, Path, Segment, Window
from guardproxy.windows import Windower
from guardproxy.wire.base import Delta, Dialect, Json, Part, Stretch
from guardproxy.wire.common import embedded
from guardproxy.wire.likeness import Likeness
from guardproxy.wire.patch import Splice, patch, splices
from guardproxy.wire.sse import PLAIN_END, Event, SSEReader, event_of, with_data

Subject = Segment | Window | Part

DONE = b"[DONE]"
_new = tuple.__new__  # spares the call that a NamedTuple's own __new__ costs, for every event of a stream


class _Channel:
    """One text that grows over events: what has been decided of it, and the changes to make, by position."""

    __slots__ = ("changes", "closed", "decided", "left", "length", "parts", "segment", "spoken", "windower")

    def __init__(self, first: Stretch) -> None:
        self.segment = Segment(first.channel, (), first.role, first.scope, "")
        self.windower = None if first.whole else Windower(self.segment)
        self.parts: list[str] = []  # of a channel that is judged as a whole
        self.length = 0
        self.decided = 0  # everything before this may leave
        self.changes: list[Splice] = []  # ordered, without overlaps
        self.left = 0  # changes before this one lie wholly in events that have left
        self.closed = False
        self.spoken = False  # some of it has been delivered

    def complete(self) -> Segment:
        """All of a channel that is judged as a whole."""
        segment = self.segment
        text = "".join(self.parts)
        return embedded(text, (), channel=segment.channel, role=segment.role, scope=segment.scope)

    def share(self, start: int, end: int) -> list[Splice]:
        """The part of the changes that falls on the characters [start, end), counted from start. Ask in order.

        The replacement goes where a change starts; its characters in later events are only removed.
        """
        local: list[Splice] = []
        for number in range(self.left, len(self.changes)):
            first, last, replacement = self.changes[number]
            if first >= end:
                break
            if last <= start:
                self.left = number + 1
                continue
            text = replacement if first >= start else ""
            local.append((max(first, start) - start, min(last, end) - start, text))
        return local


class _Held:
    """An event that waits. `telling`: it may matter for ending the stream properly."""

    __slots__ = ("document", "edits", "event", "pending", "stretches", "telling")

    def __init__(self, event: Event, document: Json) -> None:
        self.event = event
        self.document = document
        self.stretches: list[tuple[_Channel, int, int, Stretch]] = []
        self.pending = 0  # complete texts in it that are not settled
        self.edits: list[Edit] = []
        self.telling = False

    def ready(self) -> bool:
        """Whether every text in it has been decided."""
        if self.pending:
            return False
        for channel, _, end, _ in self.stretches:  # noqa: SIM110 - a generator would cost more than all the rest
            if channel.decided < end:
                return False
        return True


class _Like(NamedTuple):
    """A plain event that waits and holds one growing text and nothing else."""

    line: bytes
    channel: _Channel
    start: int
    end: int
    stretch: Stretch


@dataclass(slots=True)
class Task:
    """Something to judge. `subject`: a Window of a growing text, a complete Segment, or a Part that is no text."""

    subject: Subject
    owner: _Channel | _Held


class StreamGuard:
    """Guards one streamed response. `limit`: bytes that may be held before the stream is given up (WireError)."""

    def __init__(self, dialect: Dialect, limit: int) -> None:
        self._dialect = dialect
        self._limit = limit
        self._reader = SSEReader(limit)
        self._channels: dict[str, _Channel] = {}
        self._queue: deque[_Held | _Like] = deque()
        self._held = 0
        self._tasks: list[Task] = []
        self._likeness = Likeness()
        self._kept: list[Json] = []  # delivered events that the dialect needs to end the stream properly
        self._last: Event | bytes | None = None  # the last event with text that was delivered
        self.ended = False  # the stream came to its proper end
        self.failed = False  # the upstream reported an error inside the stream

    # -- in ---------------------------------------------------------------------------------------------------------

    def feed(self, data: bytes) -> None:
        """Takes the next bytes of the stream. Raises WireError where they are no stream that can be judged."""
        push = self._push
        for event in self._reader.feed(data):
            push(event)
        if self._held > self._limit:
            raise WireError("the stream holds too much undecided text", code="stream_held_too_large", status=502)

    def close(self, *, broken: bool = False) -> None:
        """The stream has come to its end: what is held is all there will be. `broken`: half an event is none."""
        if not broken:
            for event in self._reader.finish():
                self._push(event)
        self._close("")

    def _push(self, item: Event | bytes) -> None:
        if type(item) is bytes:
            self._held += len(item) + len(PLAIN_END)
            text = self._likeness.text(item)
            if text is not None and self._alike(item, text):
                return
            event = event_of(item)
        else:
            event = event_of(item)
            self._held += len(event.raw)
        data = event.data
        if data is None or data == DONE:
            self._push_other(event)
            return
        held = _Held(event, _parsed(data))
        self._queue.append(held)
        delta = self._dialect.delta(held.document, event.kind)
        self._read(held, delta)
        if type(item) is bytes:
            self._likeness.learn(item, delta)

    def _alike(self, line: bytes, text: str) -> bool:
        """Takes an event like the last ones, which continues their text; False if that text has come to its end."""
        stretch = self._likeness.stretch
        channel = self._channels.get(stretch.channel) if stretch is not None else None
        if stretch is None or channel is None or channel.closed or channel.windower is None:
            return False
        start = channel.length
        channel.length = end = start + len(text)
        self._queue.append(_new(_Like, (line, channel, start, end, stretch)))
        if windows := channel.windower.feed(text):
            self._tasks += [Task(window, channel) for window in windows]
        return True

    def _push_other(self, event: Event) -> None:
        """An event without a document: a comment, a keep-alive, the closing [DONE]."""
        if event.data is not None:
            self.ended = True
            self._close("")
        elif not _is_text(event.raw):
            raise WireError("the stream is no event stream", code="upstream_bad_event", status=502)
        self._queue.append(_Held(event, None))

    def _read(self, held: _Held, delta: Delta) -> None:
        for stretch in delta.stretches:
            if stretch.text:
                self._extend(held, stretch, stretch.text)
        if delta.segments or delta.parts:
            subjects: tuple[Subject, ...] = (*(s for s in delta.segments if s.text), *delta.parts)
            held.pending = len(subjects)
            self._tasks += [Task(subject, held) for subject in subjects]
        if delta.closes or delta.failed or not held.stretches:
            held.telling = True
            self.failed = self.failed or delta.failed
            for prefix in delta.closes:
                self._close(prefix)
                self.ended = self.ended or self._is_end(prefix)

    def _is_end(self, closed: str) -> bool:
        """Whether a stream may properly end once this prefix is closed: all of it is, or its last choice."""
        if closed == "":
            return True
        return closed.startswith("choices.") and all(channel.closed for channel in self._channels.values())

    def _extend(self, held: _Held, stretch: Stretch, text: str) -> None:
        channel = self._channels.get(stretch.channel)
        if channel is None or channel.closed:
            # Text after a channel's end starts a new text: no stream that behaves has it, and it must not pass unread.
            channel = self._channels[stretch.channel] = _Channel(stretch)
            held.telling = True
        start = channel.length
        channel.length = end = start + len(text)
        held.stretches.append((channel, start, end, stretch))
        if channel.windower is None:
            channel.parts.append(text)
        elif windows := channel.windower.feed(text):
            self._tasks += [Task(window, channel) for window in windows]

    def _close(self, prefix: str) -> None:
        for name, channel in self._channels.items():
            if channel.closed or not name.startswith(prefix):
                continue
            channel.closed = True
            if channel.windower is not None:
                self._tasks += [Task(window, channel) for window in channel.windower.finish()]
            elif channel.length:
                self._tasks.append(Task(channel.complete(), channel))

    # -- judged -----------------------------------------------------------------------------------------------------

    def tasks(self) -> list[Task]:
        """What has become ready to be judged since the last call, in the order of the stream."""
        tasks, self._tasks = self._tasks, []
        return tasks

    def settle(self, task: Task, edits: Sequence[Edit] = ()) -> None:
        """The subject of `task` may leave, with these edits (final replacements; positions as the subject's segment
        counts).
        """
        owner, subject = task.owner, task.subject
        if isinstance(owner, _Held):
            owner.pending -= 1
            owner.edits += edits
        elif isinstance(subject, Window):
            owner.decided = subject.release
            if edits:
                _add(owner.changes, [(edit.start, edit.end, edit.replacement) for edit in edits])
        else:
            owner.decided = owner.length
            if edits:
                _add(owner.changes, _flat("".join(owner.parts), edits))

    # -- out --------------------------------------------------------------------------------------------------------

    def take(self) -> bytes:
        """The bytes that may be delivered now."""
        out: list[bytes] = []
        queue = self._queue
        while queue:
            held = queue[0]
            if isinstance(held, _Like):
                line, channel, _, end, _ = held
                if channel.decided < end:
                    break
                channel.spoken = True
                out += (_changed(held),) if channel.changes else (line, PLAIN_END)
                self._held -= len(line) + len(PLAIN_END)
                self._last = line
            elif held.ready():
                out.append(_written(held))
                self._held -= len(held.event.raw)
                if held.telling and held.document is not None and self._dialect.keep(held.document):
                    self._kept.append(held.document)
                elif held.stretches:
                    self._last = held.event
            else:
                break
            queue.popleft()
        return b"".join(out)

    def delivered(self) -> list[Json]:
        """The delivered events that matter for ending the stream: those that the dialect keeps, and the last with
        text.
        """
        data = event_of(self._last).data if self._last is not None else None
        return self._kept if data is None else [*self._kept, _parsed(data)]

    def spoken(self) -> tuple[str, ...]:
        """The channels of which text has been delivered."""
        return tuple(name for name, channel in self._channels.items() if channel.spoken)


def _parsed(data: bytes) -> Json:
    try:
        return jiter.from_json(data, catch_duplicate_keys=True, allow_inf_nan=False)
    except ValueError:
        raise WireError("a stream event is not valid JSON", code="upstream_bad_event", status=502) from None


def _is_text(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True


def _add(changes: list[Splice], more: Iterable[Splice]) -> None:
    """Adds changes to those of a channel; one that overlaps an earlier one only makes that one longer."""
    for start, end, replacement in sorted(more):
        if changes and start < changes[-1][1]:
            first = changes[-1]
            changes[-1] = (first[0], max(first[1], end), first[2])
        else:
            changes.append((start, end, replacement))


def _flat(text: str, edits: Sequence[Edit]) -> list[Splice]:
    """Edits of a whole channel as changes of its text: direct ones, and those inside the JSON document that it is."""
    merged = merge(edits)
    whole = next((edit for edit in merged if not edit.path and edit.literal), None)
    if whole is not None:  # its offsets are those of another reading of the text
        return [(0, len(text), whole.replacement)]
    direct = [(edit.start, edit.end, edit.replacement) for edit in merged if not edit.path]
    inner = [replace(edit, path=edit.path[1:]) for edit in merged if edit.path[:1] == (Mark.JSON,)]
    return direct + splices(text, inner)


def _changed(held: _Like) -> bytes:
    """The bytes of an event of one text, some of which may change."""
    line, channel, start, end, stretch = held
    event, local = event_of(line), channel.share(start, end)
    if not local or event.data is None:
        return event.raw
    return with_data(event, patch(event.data, [Edit(stretch.path, *change) for change in local]))


def _written(held: _Held) -> bytes:
    """The bytes of an event whose texts are all decided."""
    edits, emptied = held.edits, list[Path]()
    for channel, start, end, stretch in held.stretches:
        channel.spoken = True
        if channel.changes:
            local = channel.share(start, end)
            if local:
                edits = [*edits, *(Edit(stretch.path, *change) for change in local)]
                if stretch.echo is not None:
                    emptied.append(stretch.echo)
    if not edits or held.event.data is None:
        return held.event.raw
    return with_data(held.event, patch(held.event.data, merge(edits), emptied))
