"""POST /v1/completions: every prompt, every choice's text. Prompts given as token ids cannot be read and are parts."""

from __future__ import annotations

from collections.abc import Sequence

from guardproxy.types import Path, Scope
from guardproxy.wire import completions_shapes as shapes
from guardproxy.wire.base import Delta, Json, Located, Refusal, Stretch
from guardproxy.wire.chat import messages
from guardproxy.wire.chat_events import CHOICE, ENVELOPE, beside, number_of, read_event
from guardproxy.wire.content import content
from guardproxy.wire.finder import ANSWER, LABELS, DeltaFinder, Finder, Voice

CALLER = Voice("", Scope.PROMPT)
_REQUEST = LABELS | {"model", "service_tier", "stream_options"}
_PLAIN_CHOICE = frozenset({"index", "text", "logprobs", "finish_reason", "token_ids", "stop_reason"})
_FIRST: Path = ("choices", 0, "text")
_FIRST_LOGPROBS: Path = ("choices", 0, "logprobs")


class CompletionsDialect:
    """The completions API."""

    name = "completions"

    def request(self, document: Json) -> Located:
        """The prompts, the suffix, and whatever else the caller wrote."""
        return inputs(document, "prompt", _REQUEST)

    def response(self, document: Json) -> Located:
        """Every choice's text, with its log-probabilities as its echo."""
        found = Finder()
        if not isinstance(document, dict):
            found.unknown(document, (), "", ANSWER)
            return found.located()
        for key, value in document.items():
            if key == "choices" and isinstance(value, list):
                for position, choice in enumerate(value):
                    _choice(found, choice, position)
            elif key == "choices" or key not in ENVELOPE:
                beside(found, key, value)
        return found.located()

    def delta(self, event: Json, kind: str) -> Delta:
        """Every choice's text."""
        if type(event) is dict and not kind:
            choices = event.get("choices")
            if type(choices) is list and len(choices) == 1 and event.keys() <= ENVELOPE:
                choice = choices[0]
                if type(choice) is dict and choice.keys() <= _PLAIN_CHOICE and not _ends(choice):
                    text, index = choice.get("text"), choice.get("index")
                    if type(text) is str and text and type(index) is int:
                        echo = _FIRST_LOGPROBS if choice.get("logprobs") else None
                        stretch = Stretch(
                            f"choices.{index}.text", _FIRST, text, "assistant", Scope.COMPLETION, False, echo
                        )
                        return Delta([stretch])
        return read_event(event, kind, _delta_choice)

    def refuse(self, refusal: Refusal) -> Json:
        """A completion that carries the refusal."""
        return shapes.refuse(refusal)

    def refuse_stream(self, refusal: Refusal) -> bytes:
        """The same in chunks."""
        return shapes.refuse_stream(refusal)

    def cut_stream(self, refusal: Refusal, seen: Sequence[Json]) -> bytes:
        """The refusal and the end of every choice that has not ended."""
        return shapes.cut_stream(refusal, seen)

    def keep(self, event: Json) -> bool:
        """Events that end a choice."""
        return shapes.keep(event)

    def fail_stream(self, message: str, code: str) -> bytes:
        """An error event and [DONE]."""
        return shapes.fail_stream(message, code)


def _ends(choice: dict[str, Json]) -> bool:
    return choice.get("finish_reason") is not None or bool(choice.get("token_ids") or choice.get("stop_reason"))


def inputs(document: Json, name: str, structural: frozenset[str]) -> Located:
    """The texts of a request whose input is its member `name`: strings, token ids, or lists of them."""
    found = Finder()
    if not isinstance(document, dict):
        found.unknown(document, (), "", CALLER)
        return found.located()
    for key, value in document.items():
        if key == name:
            _input(found, value, (key,), key)
        elif key == "messages":
            messages(found, value)
        else:
            found.member(key, value, (), "", CALLER, structural)
    return found.located()


def _input(found: Finder, value: Json, path: Path, channel: str) -> None:
    if isinstance(value, list):
        if any(isinstance(element, int | float) for element in value):
            found.part("tokens", path)
        for index, element in enumerate(value):
            if isinstance(element, str | list | dict):
                _input(found, element, (*path, index), f"{channel}.{index}")
    else:
        content(found, value, path, channel, CALLER)


def _choice(found: Finder, choice: Json, position: int) -> None:
    path, channel = ("choices", position), f"choices.{number_of(choice, position)}"
    if not isinstance(choice, dict):
        found.unknown(choice, path, channel, ANSWER)
        return
    text, logprobs = choice.get("text"), choice.get("logprobs")
    repeated = isinstance(text, str) and text != ""
    for key, value in choice.items():
        found.echo = (*path, "logprobs") if key == "text" and logprobs else None
        if not (key == "logprobs" and repeated):
            found.member(key, value, path, channel, ANSWER, CHOICE)
    found.echo = None


def _delta_choice(found: DeltaFinder, choice: Json, position: int, closes: list[str]) -> None:
    path, channel = ("choices", position), f"choices.{number_of(choice, position)}"
    if not isinstance(choice, dict):
        found.unknown(choice, path, channel, ANSWER)
        return
    text, logprobs = choice.get("text"), choice.get("logprobs")
    repeated = isinstance(text, str) and text != ""
    for key, value in choice.items():
        if key == "text" and isinstance(value, str):
            found.echo = (*path, "logprobs") if logprobs else None
            found.stretch(value, (*path, key), f"{channel}.{key}", ANSWER)
            found.echo = None
        elif key == "logprobs":
            if not repeated:
                found.flowing(value, (*path, key), f"{channel}.{key}", ANSWER)
        else:
            found.member(key, value, path, channel, ANSWER, CHOICE)
    if choice.get("finish_reason") is not None:
        closes.append(f"{channel}.")
