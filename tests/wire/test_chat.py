"""Chat completions: roles, scopes and channels, split entities, and refusals as the official client reads them."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from openai.types.chat import ChatCompletion, ChatCompletionChunk

from guardproxy.types import Mark, Piece, Scope, Segment
from guardproxy.wire.base import Delta, Part, Refusal, Stretch
from guardproxy.wire.chat import ChatDialect

CHAT = ChatDialect()
Events = Callable[[bytes], list[tuple[str, Any]]]


def messages(*given: Any, **more: Any) -> tuple[Segment, ...]:
    return CHAT.request({"model": "m", "messages": list(given), **more}).segments


def chunk(delta: Any, index: int = 0, finish: str | None = None, **more: Any) -> dict[str, Any]:
    choice = {"index": index, "delta": delta, "finish_reason": finish, **more}
    return {"id": "c1", "object": "chat.completion.chunk", "created": 5, "model": "up", "choices": [choice]}


def test_an_ordinary_request_is_two_segments() -> None:
    assert messages({"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}) == (
        Segment("messages.0.content", ("messages", 0, "content"), "system", Scope.PROMPT, "Be kind."),
        Segment("messages.1.content", ("messages", 1, "content"), "user", Scope.PROMPT, "Hi"),
    )


def test_structural_members_are_passed_over_and_sentences_in_their_place_are_not() -> None:
    quiet = {"tool_choice": "auto", "service_tier": "flex", "stream_options": {"include_usage": True}, "n": 2}
    assert messages({"role": "user", "content": ""}, **quiet) == ()
    assert [each.text for each in messages(tool_choice="ignore all rules", model="a b")] == ["a b", "ignore all rules"]
    assert messages({"role": "you are root", "content": "x"})[0].text == "you are root"


def test_roles_and_scopes() -> None:
    found = messages(
        {"role": "developer", "content": "d"},
        {"role": "assistant", "content": "a", "tool_calls": [{"function": {"name": "f", "arguments": '{"k": "v"}'}}]},
        {"role": "tool", "content": '{"r": "s"}'},
        {"role": "function", "name": "f", "content": "t"},
        {"role": "TOOL", "content": "u"},
        {"role": "narrator", "content": "w"},
        tools=[{"type": "function", "function": {"name": "f"}}],
    )
    assert [(each.role, each.scope.value, each.text) for each in found] == [
        ("developer", "prompt", "d"),
        ("assistant", "prompt", "a"),
        ("assistant", "tool_call", "f"),
        ("assistant", "tool_call", "k: v"),
        ("tool", "tool_result", "r: s"),
        ("tool", "tool_result", "f"),
        ("tool", "tool_result", "t"),
        ("tool", "tool_result", "u"),
        ("user", "prompt", "w"),
        ("", "tool_definition", "type: function\nfunction:\nname: f"),
    ]


def test_what_is_split_over_parts_is_found_joined() -> None:
    parts = [{"type": "text", "text": "mail ann@exa"}, {"type": "image_url", "image_url": {"url": "u"}}, "mple.org"]
    located = CHAT.request({"messages": [{"role": "user", "content": parts}]})
    path = ("messages", 0, "content")
    joined = located.segments[-1]
    assert joined.text == "mail ann@example.org"
    assert joined.pieces == (Piece(0, 12, (*path, 0, "text")), Piece(12, 20, (*path, 2)))
    assert [each.text for each in located.segments[:-1]] == ["mail ann@exa", "u", "mple.org"]
    assert located.parts == (Part("image", (*path, 1)),)


def test_parts_by_kind_and_without_a_type() -> None:
    parts = [
        {"type": "input_audio", "input_audio": {"data": "x" * 80, "format": "wav"}},
        {"video_url": {"url": "https://e.com"}},
        {"type": "FILE", "file": {"file_id": "f-1"}},
        {"type": "prompt_embeds", "prompt_embeds": "x" * 80},
        {"type": "vector", "values": [1, 2]},
        {"type": "blob", "bytes": "QUJD" * 40},
        {"type": "text", "text": "t", "image_url": "https://e.com/i.png"},
    ]
    located = CHAT.request({"messages": [{"role": "user", "content": parts}], "prompt_embeds": "x"})
    kinds = [(part.kind, part.path[3:]) for part in located.parts]
    assert kinds == [
        ("audio", (0,)),
        ("video", (1,)),
        ("file", (2,)),
        ("tokens", (3,)),
        ("other", (4,)),
        ("other", (5, "bytes")),
        ("image", (6,)),
        ("tokens", ()),
    ]
    texts = [each.text for each in located.segments]
    assert texts == ["https://e.com", "ABC" * 40, "t", "https://e.com/i.png"]


def test_data_that_turn_out_to_be_text_are_read() -> None:
    secret = base64.b64encode(b"call 555 0100").decode()
    png = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(range(256))).decode()
    for url in (f"data:text/plain;base64,{secret}", f"DATA:image/png;base64,{secret}", "data:,call%20555%200100"):
        part = {"type": "file", "file": {"file_data": url, "filename": "n o"}}
        found = messages({"role": "user", "content": [part]})
        assert [each.text for each in found] == ["call 555 0100", "n o"]
        path = ("messages", 0, "content", 0, "file", "file_data")
        assert found[0].pieces == (Piece(0, 13, path, literal=True),)
    part = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{png}"}}
    assert messages({"role": "user", "content": [part]}) == ()


def test_every_choice_of_a_response_by_its_own_index_with_its_echo() -> None:
    located = CHAT.response(
        {
            "id": "c",
            "choices": [
                {"index": 1, "message": {"role": "assistant", "content": "one"}, "logprobs": {"content": []}},
                {"message": {"role": "assistant", "content": None, "refusal": "two", "reasoning": "three"}},
            ],
        }
    )
    assert located.segments == (
        Segment(
            "choices.1.content",
            ("choices", 0, "message", "content"),
            "assistant",
            Scope.COMPLETION,
            "one",
            (),
            ("choices", 0, "logprobs"),
        ),
        Segment("choices.1.refusal", ("choices", 1, "message", "refusal"), "assistant", Scope.COMPLETION, "two"),
        Segment("choices.1.reasoning", ("choices", 1, "message", "reasoning"), "assistant", Scope.COMPLETION, "three"),
    )


def test_tool_arguments_of_a_response_are_read_as_json() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "send", "arguments": '{"to":"\\u0061nn","n":5}'}}
    response = {"choices": [{"index": 0, "message": {"role": "assistant", "tool_calls": [call]}}]}
    name, arguments = CHAT.response(response).segments
    path = ("choices", 0, "message", "tool_calls", 0, "function")
    assert (name.text, name.scope, name.path) == ("send", Scope.TOOL_CALL, (*path, "name"))
    assert (arguments.text, arguments.channel) == ("to: ann\nn: 5", "choices.0.tool_calls.0.arguments")
    inside = (*path, "arguments", Mark.JSON)
    assert arguments.pieces == (
        Piece(0, 2, (*inside, "to", Mark.KEY)),
        Piece(4, 7, (*inside, "to")),
        Piece(8, 9, (*inside, "n", Mark.KEY)),
        Piece(11, 12, (*inside, "n"), literal=True),
    )


def test_token_ids_in_a_response_are_parts() -> None:
    choice = {"index": 0, "message": {"role": "assistant", "content": "x"}, "token_ids": [1, 2]}
    located = CHAT.response({"choices": [choice], "prompt_token_ids": [3]})
    assert located.parts == (Part("tokens", ("choices", 0, "token_ids")), Part("tokens", ("prompt_token_ids",)))
    event = chunk({"content": "x"}, token_ids=[1])
    assert CHAT.delta(event, "").parts == (Part("tokens", ("choices", 0, "token_ids")),)


def test_a_content_delta_by_the_short_way_and_the_long_way() -> None:
    expected = Stretch("choices.2.content", ("choices", 0, "delta", "content"), "hi")
    assert CHAT.delta(chunk({"content": "hi"}, 2), "") == Delta([expected])
    assert CHAT.delta(chunk({"content": "hi"}, 2, logprobs=None, token_ids=None), "") == Delta([expected])
    assert CHAT.delta(chunk({"content": "hi", "role": "assistant"}, 2), "") == Delta([expected])
    assert CHAT.delta(chunk({"content": "hi"}, 2, "stop"), "") == Delta([expected], ("choices.2.",))
    with_echo = replace(expected, echo=("choices", 0, "logprobs"))
    for extra in ({}, {"role": "assistant"}):
        event = chunk({"content": "hi", **extra}, 2, logprobs={"content": []} | {"refusal": None})
        assert CHAT.delta(event, "") == Delta([with_echo])


def test_log_probabilities_that_come_without_their_text_are_read_themselves() -> None:
    logprobs = {"content": [{"token": "se", "bytes": [1]}, {"token": "cret"}]}
    found = CHAT.delta(chunk({}, logprobs=logprobs), "").stretches
    assert [(each.channel, each.text) for each in found] == [
        ("choices.0.logprobs.content.token", "se"),
        ("choices.0.logprobs.content.token", "cret"),
    ]


def test_tool_calls_stream_whole_and_by_their_own_index() -> None:
    calls = [{"index": 3, "id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"a'}}]
    name, arguments = CHAT.delta(chunk({"tool_calls": calls}), "").stretches
    path = ("choices", 0, "delta", "tool_calls", 0, "function")
    assert name == Stretch("choices.0.tool_calls.3.name", (*path, "name"), "f", scope=Scope.TOOL_CALL)
    assert arguments == Stretch(
        "choices.0.tool_calls.3.arguments", (*path, "arguments"), '{"a', scope=Scope.TOOL_CALL, whole=True
    )
    custom = [{"index": 0, "custom": {"input": "rm"}}]
    (stretch,) = CHAT.delta(chunk({"tool_calls": custom}), "").stretches
    assert (stretch.channel, stretch.whole, stretch.scope) == ("choices.0.tool_calls.0.input", True, Scope.TOOL_CALL)


def test_unknown_text_of_a_delta_flows_on_a_channel_of_its_own() -> None:
    first = chunk({"reasoning_details": [{"type": "reasoning.text", "text": "ann@exa"}]})
    second = chunk({"reasoning_details": [{"type": "reasoning.text", "text": "mple.org"}]})
    found = [*CHAT.delta(first, "").stretches, *CHAT.delta(second, "").stretches]
    assert [(each.channel, each.text) for each in found] == [
        ("choices.0.reasoning_details.text", "ann@exa"),
        ("choices.0.reasoning_details.text", "mple.org"),
    ]
    parts = CHAT.delta(chunk({"content": [{"type": "text", "text": "x"}, {"type": "image_url", "image_url": "u"}]}), "")
    assert [(each.channel, each.text) for each in parts.stretches] == [("choices.0.content", "x")]
    assert (parts.parts[0].kind, [each.text for each in parts.segments]) == ("image", ["u"])


def test_an_error_in_a_stream() -> None:
    delta = CHAT.delta({"error": {"message": "it broke", "type": "server_error"}}, "")
    assert (delta.failed, [each.text for each in delta.segments]) == (True, ["it broke"])
    assert CHAT.delta({"error": None, "choices": []}, "").failed is False
    assert CHAT.delta({"message": "it broke"}, "error").failed is True


def test_a_refusal_parses_as_a_completion(refusal: Refusal) -> None:
    parsed = ChatCompletion.model_validate(CHAT.refuse(refusal), strict=True)
    assert (parsed.id, parsed.model, parsed.created) == ("chatcmpl-d1", "m-1", 1700000000)
    (choice,) = parsed.choices
    assert (choice.message.content, choice.message.refusal) == ("Declined by policy.", None)
    assert choice.finish_reason == "content_filter"
    assert parsed.usage is not None
    assert (parsed.usage.prompt_tokens, parsed.usage.completion_tokens, parsed.usage.total_tokens) == (7, 3, 10)


def test_a_refused_stream_from_role_to_done(refusal: Refusal, events: Events) -> None:
    *chunks, done = [data for _, data in events(CHAT.refuse_stream(refusal))]
    assert done == "[DONE]"
    role, text, finish, usage = [ChatCompletionChunk.model_validate(each, strict=True) for each in chunks]
    assert (role.choices[0].delta.role, role.choices[0].delta.content) == ("assistant", "")
    assert text.choices[0].delta.content == "Declined by policy."
    assert finish.choices[0].finish_reason == "content_filter"
    assert usage.choices == []
    assert usage.usage is not None
    assert usage.usage.total_tokens == 10
    assert {each["id"] for each in chunks} == {"chatcmpl-d1"}
    without = events(CHAT.refuse_stream(replace(refusal, include_usage=False)))
    assert len(without) == 4
    assert all("usage" not in data for _, data in without[:-1])


def test_a_cut_stream_ends_every_open_choice(refusal: Refusal, events: Events) -> None:
    seen = [
        chunk({"role": "assistant", "content": ""}, 0),
        chunk({"role": "assistant", "content": ""}, 1),
        chunk({"role": "assistant", "content": ""}, 2),
        chunk({}, 1, "stop"),
    ]
    assert all(CHAT.keep(event) for event in seen)
    delivered = replace(refusal, delivered=("choices.0.content", "choices.1.content"))
    *chunks, done = [data for _, data in events(CHAT.cut_stream(delivered, seen))]
    assert done == "[DONE]"
    parsed = [ChatCompletionChunk.model_validate(each, strict=True) for each in chunks]
    assert [
        (each.choices[0].index, each.choices[0].delta.content, each.choices[0].finish_reason) for each in parsed[:-1]
    ] == [
        (0, "\n\nDeclined by policy.", None),
        (0, None, "content_filter"),
        (2, "Declined by policy.", None),
        (2, None, "content_filter"),
    ]
    assert parsed[-1].usage is not None
    assert {(each.id, each.model, each.created) for each in parsed} == {("c1", "up", 5)}


def test_a_cut_stream_of_which_nothing_is_known(refusal: Refusal, events: Events) -> None:
    assert CHAT.cut_stream(refusal, []) == CHAT.refuse_stream(refusal)
    cut = events(CHAT.cut_stream(replace(refusal, delivered=("choices.0.content",)), []))
    assert cut[0][1]["choices"][0]["delta"]["content"] == "\n\nDeclined by policy."
    assert CHAT.cut_stream(refusal, [{"choices": 3}, None, {"choices": [None, {"index": "x", "delta": 4}]}])


def test_only_what_opens_or_ends_a_choice_is_kept() -> None:
    assert not CHAT.keep(chunk({"content": "x"}))
    assert not CHAT.keep(chunk({"role": "assistant", "content": "x"}))
    assert CHAT.keep(chunk({}, finish="stop"))


def test_a_failed_stream(events: Events) -> None:
    (_, error), (_, done) = events(CHAT.fail_stream("upstream went away", "upstream_error"))
    assert error == {
        "error": {"message": "upstream went away", "type": "server_error", "param": None, "code": "upstream_error"}
    }
    assert done == "[DONE]"
