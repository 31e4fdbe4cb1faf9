"""Anthropic's messages API: blocks, their events, and refusals as the official client reads them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from anthropic.types import Message, RawMessageStreamEvent
from pydantic import TypeAdapter

from guardproxy.types import Mark, Piece, Scope
from guardproxy.wire.base import Delta, Part, Refusal, Stretch
from guardproxy.wire.messages import MessagesDialect

MESSAGES = MessagesDialect()
Events = Callable[[bytes], list[tuple[str, Any]]]
EVENT: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)


def asked(*blocks: Any, role: str = "user") -> list[tuple[str, str, str]]:
    located = MESSAGES.request({"model": "m", "messages": [{"role": role, "content": list(blocks)}]})
    return [(each.role, each.scope.value, each.text) for each in located.segments]


def test_system_messages_and_tools() -> None:
    located = MESSAGES.request(
        {
            "model": "m",
            "max_tokens": 5,
            "system": "Be kind.",
            "messages": [{"role": "user", "content": "Hi"}],
            "tools": [{"name": "t"}],
            "mcp_servers": [{"url": "https://e.com", "authorization_token": "key"}],
        }
    )
    assert [(each.role, each.scope.value, each.text) for each in located.segments] == [
        ("system", "prompt", "Be kind."),
        ("user", "prompt", "Hi"),
        ("", "tool_definition", "name: t"),
        ("", "tool_definition", "https://e.com"),
    ]


def test_tool_use_is_flattened_where_it_stands() -> None:
    block = {"type": "tool_use", "id": "i", "name": "send", "input": {"to": "ann"}}
    located = MESSAGES.response({"id": "m", "type": "message", "role": "assistant", "content": [block]})
    name, given = located.segments
    assert (name.text, name.scope) == ("send", Scope.TOOL_CALL)
    path = ("content", 0, "input", "to")
    assert (given.text, given.pieces) == ("to: ann", (Piece(0, 2, (*path, Mark.KEY)), Piece(4, 7, path)))


def test_blocks_by_scope() -> None:
    assert asked({"type": "tool_result", "tool_use_id": "i", "content": '{"a": "b"}'}) == [
        ("tool", "tool_result", "a: b")
    ]
    result = [{"type": "text", "text": "ann@exa"}, {"type": "text", "text": "mple.org"}]
    assert asked({"type": "tool_result", "tool_use_id": "i", "content": result})[-1] == (
        "tool",
        "tool_result",
        "ann@example.org",
    )
    assert asked({"type": "thinking", "thinking": "hm", "signature": "QUJD+/=="}, role="assistant") == [
        ("assistant", "prompt", "hm")
    ]
    text = {"type": "document", "title": "t", "source": {"type": "text", "media_type": "text/plain", "data": "words"}}
    assert asked(text) == [
        ("user", "prompt", "t"),
        ("user", "prompt", "type: text\nmedia_type: text/plain\ndata: words"),
    ]


def test_parts() -> None:
    blocks = [
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgoAAAAN" * 9}},
        {
            "type": "document",
            "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0xLjQKJeLjz9MK"},
        },
        {"type": "redacted_thinking", "data": "QUJD"},
        {"type": "container_upload", "file_id": "f"},
        {"type": "tool_result", "content": [{"type": "image", "source": {"type": "url", "url": "https://e.com"}}]},
    ]
    located = MESSAGES.request({"messages": [{"role": "user", "content": blocks}]})
    assert [(part.kind, part.path[3:]) for part in located.parts] == [
        ("image", (0,)),
        ("file", (1,)),
        ("encrypted", (2,)),
        ("encrypted", (2, "data")),
        ("file", (3,)),
        ("image", (4, "content", 0)),
    ]


def delta(**members: Any) -> Delta:
    return MESSAGES.delta({"type": "content_block_delta", "index": 1, "delta": members}, "content_block_delta")


def test_deltas() -> None:
    text = Stretch("content.1.text", ("delta", "text"), "hi")
    assert delta(type="text_delta", text="hi") == Delta([text])
    assert delta(type="text_delta", text="hi", extra=None) == Delta([text])
    assert delta(type="input_json_delta", partial_json='{"a') == Delta(
        [Stretch("content.1.input", ("delta", "partial_json"), '{"a', "assistant", Scope.TOOL_CALL, True)]
    )
    assert delta(type="thinking_delta", thinking="hm") == Delta(
        [Stretch("content.1.thinking", ("delta", "thinking"), "hm")]
    )
    assert delta(type="signature_delta", signature="QUJD+/==") == Delta()
    assert [each.text for each in delta(type="signature_delta", signature="some words").segments] == ["some words"]
    start = {"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": "ann@exa"}}
    assert MESSAGES.delta(start, "").stretches == [Stretch("content.1.text", ("content_block", "text"), "ann@exa")]


def test_ends_and_errors() -> None:
    assert MESSAGES.delta({"type": "content_block_stop", "index": 1}, "").closes == ("content.1.",)
    assert MESSAGES.delta({"type": "message_stop"}, "").closes == ("",)
    assert MESSAGES.delta({"type": "ping"}, "ping") == Delta()
    error = MESSAGES.delta({"type": "error", "error": {"type": "api_error", "message": "it broke"}}, "error")
    assert (error.failed, [each.text for each in error.segments]) == (True, ["it broke"])


def test_a_refusal_parses_as_a_message(refusal: Refusal) -> None:
    parsed = Message.model_validate(MESSAGES.refuse(refusal), strict=True)
    assert (parsed.id, parsed.stop_reason, parsed.model) == ("msg_d1", "refusal", "m-1")
    assert [(block.type, getattr(block, "text", None)) for block in parsed.content] == [("text", "Declined by policy.")]
    assert (parsed.usage.input_tokens, parsed.usage.output_tokens) == (7, 3)


def _typed(events: list[tuple[str, Any]]) -> list[Any]:
    assert all(kind == data["type"] for kind, data in events)
    return [EVENT.validate_python(data, strict=True) for _, data in events]


def test_a_refused_stream_event_by_event(refusal: Refusal, events: Events) -> None:
    typed = _typed(events(MESSAGES.refuse_stream(refusal)))
    assert [each.type for each in typed] == [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    assert typed[2].delta.text == "Declined by policy."
    assert typed[4].delta.stop_reason == "refusal"


def test_a_cut_stream_closes_what_is_open(refusal: Refusal, events: Events) -> None:
    start = {"type": "message_start", "message": {"id": "up"}}
    first = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
    stop = {"type": "content_block_stop", "index": 0}
    second = {"type": "content_block_start", "index": 1, "content_block": {"type": "tool_use", "id": "t"}}
    assert all(MESSAGES.keep(event) for event in (start, first, stop, second))
    assert not MESSAGES.keep({"type": "content_block_delta"})
    typed = _typed(events(MESSAGES.cut_stream(refusal, [start, first, stop, second])))
    assert [(each.type, getattr(each, "index", None)) for each in typed] == [
        ("content_block_stop", 1),
        ("content_block_start", 2),
        ("content_block_delta", 2),
        ("content_block_stop", 2),
        ("message_delta", None),
        ("message_stop", None),
    ]
    ended = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}}
    assert [kind for kind, _ in events(MESSAGES.cut_stream(refusal, [start, ended]))] == ["message_stop"]
    assert MESSAGES.cut_stream(refusal, []) == MESSAGES.refuse_stream(refusal)


def test_a_failed_stream(events: Events) -> None:
    assert events(MESSAGES.fail_stream("upstream went away", "upstream_error")) == [
        (
            "error",
            {
                "type": "error",
                "error": {"type": "api_error", "message": "upstream went away", "code": "upstream_error"},
            },
        )
    ]


def test_an_encrypted_search_result_is_a_part() -> None:
    result = {"type": "web_search_result", "title": "t", "url": "u", "encrypted_content": "QUJD"}
    block = {"type": "web_search_tool_result", "tool_use_id": "i", "content": [result]}
    located = MESSAGES.response({"content": [block]})
    assert located.parts == (Part("encrypted", ("content", 0, "content", 0, "encrypted_content")),)
    assert [(each.scope, each.text) for each in located.segments] == [
        (Scope.TOOL_RESULT, "t"),
        (Scope.TOOL_RESULT, "u"),
    ]
