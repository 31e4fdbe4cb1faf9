"""Completions and embeddings: prompts in all their forms, texts, echoes and refusals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from openai.types import Completion

from guardproxy.errors import WireError
from guardproxy.types import Scope, Segment
from guardproxy.wire.base import Delta, Located, Part, Refusal, Stretch
from guardproxy.wire.completions import CompletionsDialect
from guardproxy.wire.embeddings import EmbeddingsDialect

COMPLETIONS, EMBEDDINGS = CompletionsDialect(), EmbeddingsDialect()
Events = Callable[[bytes], list[tuple[str, Any]]]


@pytest.mark.parametrize(("dialect", "name"), [(COMPLETIONS, "prompt"), (EMBEDDINGS, "input")])
def test_inputs_in_all_their_forms(dialect: CompletionsDialect | EmbeddingsDialect, name: str) -> None:
    def read(value: Any) -> tuple[list[tuple[Any, str]], list[Any]]:
        located = dialect.request({"model": "m", name: value})
        return [(each.path[1:], each.text) for each in located.segments], [
            (part.kind, part.path[1:]) for part in located.parts
        ]

    assert read("one") == ([((), "one")], [])
    assert read(["one", "", "two"]) == ([((0,), "one"), ((2,), "two")], [])
    assert read([1, 2, 3]) == ([], [("tokens", ())])
    assert read([[1], [2, 3]]) == ([], [("tokens", (0,)), ("tokens", (1,))])
    assert read(["one", [4], 5, ["two", [6]]]) == (
        [((0,), "one"), ((3, 0), "two")],
        [("tokens", ()), ("tokens", (1,)), ("tokens", (3, 1))],
    )
    assert read([{"text": "one"}, {"image": "u"}]) == ([((0, "text"), "one"), ((1, "image"), "u")], [("image", (1,))])
    assert read({"prompt_token_ids": [1]}) == ([], [("tokens", ("prompt_token_ids",))])


def test_prompts_of_one_request_are_not_joined() -> None:
    assert [each.text for each in COMPLETIONS.request({"prompt": ["ann@exa", "mple.org"]}).segments] == [
        "ann@exa",
        "mple.org",
    ]


def test_everything_beside_the_prompt() -> None:
    located = COMPLETIONS.request({"prompt_embeds": "QUJD", "suffix": "s", "user": "u", "stop": ["x", "y"], "n": 2})
    assert [(each.channel, each.text, each.role, each.scope) for each in located.segments] == [
        ("suffix", "s", "", Scope.PROMPT),
        ("user", "u", "", Scope.PROMPT),
        ("stop", "x\ny", "", Scope.PROMPT),
    ]
    assert located.parts == (Part("tokens", ("prompt_embeds",)),)


def test_a_text_with_its_echo() -> None:
    choice = {"index": 1, "text": "t", "logprobs": {"tokens": ["t"]}, "finish_reason": "stop"}
    path = ("choices", 0, "text")
    echo = ("choices", 0, "logprobs")
    expected = Segment("choices.1.text", path, "assistant", Scope.COMPLETION, "t", (), echo)
    assert COMPLETIONS.response({"choices": [choice]}) == Located((expected,))
    stretch = Stretch("choices.1.text", path, "t", echo=echo)
    assert COMPLETIONS.delta({"choices": [choice]}, "") == Delta([stretch], ("choices.1.",))
    open_ = {**choice, "finish_reason": None}
    assert COMPLETIONS.delta({"choices": [open_]}, "") == Delta([stretch])
    assert COMPLETIONS.delta({"choices": [{**open_, "x": 1}]}, "") == Delta([stretch])


def test_a_refusal_parses_as_a_completion(refusal: Refusal) -> None:
    parsed = Completion.model_validate(COMPLETIONS.refuse(refusal), strict=True)
    assert (parsed.id, parsed.choices[0].text, parsed.choices[0].finish_reason) == (
        "cmpl-d1",
        "Declined by policy.",
        "content_filter",
    )
    assert parsed.usage is not None
    assert parsed.usage.total_tokens == 10


def test_refused_and_cut_streams(refusal: Refusal, events: Events) -> None:
    def texts(stream: bytes) -> list[tuple[int, str, str]]:
        *chunks, done = [data for _, data in events(stream)]
        assert done == "[DONE]"
        assert chunks[-1]["choices"] == []
        assert chunks[-1]["usage"]["total_tokens"] == 10
        return [(each["choices"][0]["index"], each["choices"][0]["text"], each["id"]) for each in chunks[:-1]]

    assert texts(COMPLETIONS.refuse_stream(refusal)) == [(0, "Declined by policy.", "cmpl-d1"), (0, "", "cmpl-d1")]
    ended = {"id": "c1", "choices": [{"index": 0, "text": "", "finish_reason": "stop"}]}
    assert COMPLETIONS.keep(ended)
    assert not COMPLETIONS.keep({"choices": [{"index": 0, "text": "x", "finish_reason": None}]})
    delivered = replace(refusal, delivered=("choices.0.text", "choices.1.text"))
    assert texts(COMPLETIONS.cut_stream(delivered, [ended])) == [
        (1, "\n\nDeclined by policy.", "c1"),
        (1, "", "c1"),
    ]


def test_embeddings_have_nothing_to_read_and_no_refusal(refusal: Refusal) -> None:
    assert EMBEDDINGS.response({"data": [{"embedding": [0.1]}]}) == Located()
    for refuse in (EMBEDDINGS.refuse, EMBEDDINGS.refuse_stream, lambda given: EMBEDDINGS.cut_stream(given, [])):
        with pytest.raises(WireError):
            refuse(refusal)


def test_images_in_the_messages_of_an_embeddings_request_are_parts() -> None:
    content = [{"type": "image_url", "image_url": {"url": "u"}}]
    assert EMBEDDINGS.request({"messages": [{"role": "user", "content": content}]}).parts == (
        Part("image", ("messages", 0, "content", 0)),
    )
