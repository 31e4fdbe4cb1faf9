"""The responses API: items by their members, typed events, and refusals as the official client reads them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from guardproxy.types import Scope
from guardproxy.wire.base import Delta, Part, Refusal, Stretch
from guardproxy.wire.responses import ResponsesDialect

RESPONSES = ResponsesDialect()
Events = Callable[[bytes], list[tuple[str, Any]]]
EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)


def asked(*items: Any) -> list[tuple[str, str, str]]:
    located = RESPONSES.request({"model": "m", "input": list(items)})
    return [(each.role, each.scope.value, each.text) for each in located.segments]


def test_instructions_and_a_plain_input() -> None:
    located = RESPONSES.request({"model": "m", "instructions": "Be kind.", "input": "Hi"})
    assert [(each.role, each.scope, each.channel, each.text) for each in located.segments] == [
        ("system", Scope.PROMPT, "instructions", "Be kind."),
        ("user", Scope.PROMPT, "input", "Hi"),
    ]


def test_items_by_role_and_scope() -> None:
    assert asked({"role": "developer", "content": "d"}) == [("developer", "prompt", "d")]
    assert asked({"type": "function_call", "name": "f", "call_id": "c", "arguments": '{"a": "b"}'}) == [
        ("assistant", "tool_call", "f"),
        ("assistant", "tool_call", "a: b"),
    ]
    assert asked({"type": "function_call_output", "call_id": "c", "output": '{"a": "b"}'}) == [
        ("tool", "tool_result", "a: b")
    ]
    assert asked({"type": "reasoning", "summary": [{"type": "summary_text", "text": "s"}]}) == [
        ("assistant", "prompt", "s")
    ]
    assert asked({"type": "mcp_call", "name": "n", "arguments": "x", "output": "y"}) == [
        ("assistant", "tool_call", "n"),
        ("assistant", "tool_call", "x"),
        ("tool", "tool_result", "y"),
    ]
    assert asked({"type": "code_interpreter_call", "code": "c", "outputs": [{"type": "logs", "logs": "l"}]}) == [
        ("assistant", "tool_call", "c"),
        ("tool", "tool_result", "l"),
    ]
    assert asked({"type": "brand_new_call", "words": "w"}) == [("assistant", "tool_call", "w")]


def test_parts_of_items() -> None:
    located = RESPONSES.request(
        {
            "input": [
                {"role": "user", "content": [{"type": "input_image", "file_id": "f"}, {"type": "input_file"}]},
                {"type": "reasoning", "summary": [], "encrypted_content": "QUJD"},
                {"type": "computer_call_output", "output": {"type": "computer_screenshot", "image_url": "u"}},
                {"type": "item_reference", "id": "i"},
                {"type": "image_generation_call", "id": "i", "result": "QUJD" * 40},
            ]
        }
    )
    assert located.parts == (
        Part("image", ("input", 0, "content", 0)),
        Part("file", ("input", 0, "content", 1)),
        Part("encrypted", ("input", 1, "encrypted_content")),
        Part("image", ("input", 2, "output")),
        Part("image", ("input", 4)),
    )


def test_credentials_of_mcp_servers_stay_out_and_those_of_others_do_not() -> None:
    tool = {"type": "mcp", "server_url": "https://e.com", "authorization": "key", "headers": {"a": "key"}}
    (segment,) = RESPONSES.request({"tools": [tool]}).segments
    assert segment.text == "type: mcp\nserver_url: https://e.com"
    (segment,) = RESPONSES.request({"tools": [{**tool, "type": "function"}]}).segments
    assert "key" in segment.text


def test_a_response_repeats_its_request_as_prompt() -> None:
    located = RESPONSES.response(
        {
            "id": "r",
            "instructions": "Be kind.",
            "metadata": {"k": "some words"},
            "output": [
                {
                    "type": "message",
                    "role": "assistant",
                    "content": [{"type": "output_text", "text": "t", "logprobs": [{"token": "t"}], "annotations": []}],
                }
            ],
            "error": {"code": "server_error", "message": "it broke"},
        }
    )
    assert [(each.role, each.scope.value, each.channel, each.text) for each in located.segments] == [
        ("system", "prompt", "instructions", "Be kind."),
        ("user", "prompt", "metadata", "k: some words"),
        ("assistant", "completion", "output.0.content.0.text", "t"),
        ("assistant", "completion", "error.message", "it broke"),
    ]
    assert located.segments[2].echo == ("output", 0, "content", 0, "logprobs")


def delta(kind: str, **members: Any) -> Delta:
    return RESPONSES.delta({"type": kind, "sequence_number": 4, "output_index": 2, **members}, kind)


@pytest.mark.parametrize(
    ("base", "index", "member", "channel", "scope", "whole"),
    [
        ("output_text", "content_index", "text", "content.1.text", Scope.COMPLETION, False),
        ("refusal", "content_index", "refusal", "content.1.refusal", Scope.COMPLETION, False),
        ("reasoning_text", "content_index", "text", "content.1.text", Scope.COMPLETION, False),
        ("reasoning_summary_text", "summary_index", "text", "summary.1.text", Scope.COMPLETION, False),
        ("function_call_arguments", "x", "arguments", "arguments", Scope.TOOL_CALL, True),
        ("mcp_call_arguments", "x", "arguments", "arguments", Scope.TOOL_CALL, True),
        ("custom_tool_call_input", "x", "input", "input", Scope.TOOL_CALL, True),
        ("code_interpreter_call_code", "x", "code", "code", Scope.TOOL_CALL, False),
        ("audio.transcript", "x", "transcript", "audio.transcript", Scope.COMPLETION, False),
    ],
)
def test_a_delta_and_its_done(base: str, index: str, member: str, channel: str, scope: Scope, whole: bool) -> None:
    where = {index: 1}
    streamed = delta(f"response.{base}.delta", delta="hi", **where)
    assert streamed == Delta([Stretch(f"output.2.{channel}", ("delta",), "hi", "assistant", scope, whole)])
    longer = delta(f"response.{base}.delta", delta="hi", extra=None, **where)
    assert longer == streamed
    done = delta(f"response.{base}.done", **{member: "hi there"}, **where)
    assert done.closes == (f"output.2.{channel}",)
    assert [(each.channel, each.text, each.scope) for each in done.segments] == [
        (f"output.2.{channel}", "hi there", scope)
    ]


def test_log_probabilities_are_the_echo_of_a_delta() -> None:
    for extra in ({}, {"extra": None}):
        found = delta("response.output_text.delta", content_index=0, delta="hi", logprobs=[{"token": "hi"}], **extra)
        assert found.stretches == [Stretch("output.2.content.0.text", ("delta",), "hi", echo=("logprobs",))]


def test_ends() -> None:
    item = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "t"}]}
    done = delta("response.output_item.done", item=item)
    assert (done.closes, [each.channel for each in done.segments]) == (("output.2.",), ["output.2.content.0.text"])
    assert delta("response.content_part.done", content_index=1).closes == ("output.2.content.1.",)
    whole = delta("response.completed", response={"output": [item]})
    assert (whole.closes, whole.failed, [each.path for each in whole.segments]) == (
        ("",),
        False,
        [("response", "output", 0, "content", 0, "text")],
    )
    failed = delta("response.failed", response={"error": {"message": "it broke"}, "output": []})
    assert (failed.closes, failed.failed, [each.text for each in failed.segments]) == (("",), True, ["it broke"])
    error = delta("error", code="c", message="it broke")
    assert (error.failed, [each.text for each in error.segments]) == (True, ["it broke"])


def test_an_event_of_an_unheard_of_type_flows_by_its_type_and_item() -> None:
    first = delta("response.poem.delta", item_id="i1", delta="ann@exa")
    second = delta("response.poem.delta", item_id="i1", delta="mple.org")
    assert first.stretches[0].channel == second.stretches[0].channel == "response.poem.i1.output.2.0"
    assert delta("response.poem.done", item_id="i1", text="x").closes == ("response.poem.i1.output.2.0",)
    assert delta("response.audio.delta", delta="QUJD").parts == (Part("audio", ("delta",)),)


def test_a_refusal_parses_as_a_response(refusal: Refusal) -> None:
    parsed = Response.model_validate(RESPONSES.refuse(refusal), strict=True)
    assert (parsed.output_text, parsed.status, parsed.model) == ("Declined by policy.", "incomplete", "m-1")
    assert parsed.incomplete_details is not None
    assert parsed.incomplete_details.reason == "content_filter"
    assert parsed.usage is not None
    assert (parsed.usage.input_tokens, parsed.usage.output_tokens, parsed.usage.total_tokens) == (7, 3, 10)


def _typed(events: list[tuple[str, Any]]) -> list[Any]:
    assert all(kind == data["type"] for kind, data in events)
    numbers = [data["sequence_number"] for _, data in events]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    return [EVENT.validate_python(data, strict=True) for _, data in events]


def test_a_refused_stream_event_by_event(refusal: Refusal, events: Events) -> None:
    typed = _typed(events(RESPONSES.refuse_stream(refusal)))
    assert [each.type.removeprefix("response.") for each in typed] == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "incomplete",
    ]
    assert (typed[0].sequence_number, typed[4].delta, typed[5].text) == (0, refusal.text, refusal.text)
    assert typed[-1].response.output_text == refusal.text
    assert typed[-1].response.incomplete_details.reason == "content_filter"


def _seen(refusal: Refusal, events: Events) -> list[Any]:
    """The start of a stream from elsewhere: created, in_progress, item and part added, one delta."""
    other = replace(refusal, decision="up", model="up-model")
    return [data for _, data in events(RESPONSES.refuse_stream(other))[:5]]


def test_a_cut_stream_closes_the_open_message(refusal: Refusal, events: Events) -> None:
    seen = _seen(refusal, events)
    assert [RESPONSES.keep(event) for event in seen] == [True, False, True, True, False]
    typed = _typed(events(RESPONSES.cut_stream(refusal, seen)))
    assert [each.type.removeprefix("response.") for each in typed] == [
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "incomplete",
    ]
    assert (typed[0].sequence_number, typed[0].item_id, typed[0].delta) == (5, "msg_up", "\n\nDeclined by policy.")
    final = typed[-1].response
    assert (final.id, final.model, final.output_text) == ("resp_up", "up-model", "Declined by policy.")


def test_a_cut_stream_leaves_an_open_tool_call_and_adds_a_message(refusal: Refusal, events: Events) -> None:
    created = _seen(refusal, events)[0]
    done = {"type": "reasoning", "id": "rs", "summary": []}
    call = {"type": "function_call", "id": "fc", "call_id": "c", "name": "f", "arguments": ""}
    seen = [
        created,
        {"type": "response.output_item.added", "output_index": 0, "sequence_number": 1, "item": done},
        {"type": "response.output_item.done", "output_index": 0, "sequence_number": 2, "item": done},
        {"type": "response.output_item.added", "output_index": 1, "sequence_number": 3, "item": call},
    ]
    typed = _typed(events(RESPONSES.cut_stream(refusal, seen)))
    assert [each.type.removeprefix("response.") for each in typed[:3]] == [
        "output_item.added",
        "content_part.added",
        "output_text.delta",
    ]
    assert (typed[0].output_index, typed[2].delta) == (2, "Declined by policy.")
    assert [each.type for each in typed[-1].response.output] == ["reasoning", "message"]


def test_cutting_survives_whatever_was_seen(refusal: Refusal) -> None:
    assert RESPONSES.cut_stream(refusal, []) == RESPONSES.refuse_stream(refusal)
    odd = [{"type": "response.created", "response": 4, "sequence_number": "x"}, None, {"output_index": [], "item": 3}]
    assert RESPONSES.cut_stream(refusal, odd)


def test_a_failed_stream(events: Events) -> None:
    (error,) = _typed(events(RESPONSES.fail_stream("upstream went away", "upstream_error")))
    assert (error.type, error.message, error.code) == ("error", "upstream went away", "upstream_error")
