"""Every API surface through the official client and real sockets: guarded both ways, and otherwise untouched."""

import json
from typing import Any

import aiohttp
import anthropic
import openai
import pytest
from yarl import URL

from guardproxy.testing import Choice, Delivery, make_reply

MAIL = "ann@" + "example.org"


async def collected(stream: Any) -> tuple[str, Any]:
    text, last = "", None
    async for event in stream:
        for choice in event.choices:
            text += choice.delta.content or ""
            last = choice.finish_reason or last
    return text, last


async def test_a_clean_request_and_its_answer_pass_byte_for_byte(start: Any) -> None:
    setup = await start()
    body = b'{ "model":"m", "messages" : [{"role":"user","content":"h\\u0069 \\/ there"}],\n "x_unknown": 1.50e3 }'
    async with (
        aiohttp.ClientSession() as session,
        session.post(
            f"{setup.proxy.url}/chat/completions",
            data=body,
            headers={"Content-Type": "application/json", "X-Other": "kept"},
        ) as response,
    ):
        through = await response.read()
        assert response.headers["x-guardproxy-decision"].startswith("gp-")
    assert setup.upstream.last.body == body
    assert setup.upstream.last.headers["X-Other"] == "kept"
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{setup.upstream.url}/chat/completions", data=body) as r,
    ):
        direct = await r.read()
    assert json.loads(through)["choices"] == json.loads(direct)["choices"]


async def test_personal_data_is_hidden_from_the_upstream_and_restored_for_the_caller(start: Any, say: Any) -> None:
    setup = await start()
    answer = await setup.client.chat.completions.create(model="m", messages=say(f"My mail is {MAIL}, repeat it"))
    sent = setup.upstream.last.document["messages"][0]["content"]
    assert MAIL not in sent
    assert "[EMAIL_ADDRESS_1_" in sent
    assert MAIL in answer.choices[0].message.content
    assert setup.upstream.last.headers["Authorization"] == "Bearer caller-key"


@pytest.mark.parametrize("split", [1, 3, 7, 50])
async def test_the_same_in_a_stream(start: Any, say: Any, split: int) -> None:
    setup = await start()
    setup.upstream.reply(delivery=Delivery(split=split, writes=[1, 2, 5, 40]))
    text, finish = await collected(
        await setup.client.chat.completions.create(model="m", messages=say(f"Mail {MAIL} é漢😀 zanzibar"), stream=True)
    )
    assert text == f"You said: Mail {MAIL} é漢😀 [MASKED]"
    assert finish == "stop"


async def test_a_completion_is_masked_unary_and_streamed_alike(start: Any, say: Any) -> None:
    setup = await start()
    setup.upstream.reply(f"Write to bob@{'example.com'} in Zanzibar. " + "And so on. " * 40, delivery=Delivery(split=4))
    unary = await setup.client.chat.completions.create(model="m", messages=say("hi"))
    text, _ = await collected(await setup.client.chat.completions.create(model="m", messages=say("hi"), stream=True))
    assert text == unary.choices[0].message.content
    assert text.startswith("Write to [EMAIL_ADDRESS] in [MASKED]. And so on.")


async def test_a_blocked_prompt_is_the_client_s_own_error(start: Any, say: Any) -> None:
    setup = await start()
    for stream in (False, True):
        with pytest.raises(openai.BadRequestError) as raised:
            await setup.client.chat.completions.create(model="m", messages=say("a forbidden phrase"), stream=stream)
        assert raised.value.code == "content_filter"
        assert "forbidden phrase" not in str(raised.value)
        assert "stop" not in str(raised.value)
        assert raised.value.response.headers["x-guardproxy-decision"].startswith("gp-")
    assert setup.upstream.requests == []


async def test_a_blocked_prompt_can_be_a_normal_completion(start: Any, say: Any, policy: str) -> None:
    setup = await start(policy.replace("prompt: error", "prompt: completion"))
    answer = await setup.client.chat.completions.create(model="m", messages=say("a forbidden phrase"))
    assert (answer.choices[0].finish_reason, answer.choices[0].message.content) == ("content_filter", "Not with us.")
    stream = await setup.client.chat.completions.create(
        model="m", messages=say("a forbidden phrase"), stream=True, stream_options={"include_usage": True}
    )
    events = [event async for event in stream]
    assert [c.finish_reason for e in events for c in e.choices][-1] == "content_filter"
    assert "".join(c.delta.content or "" for e in events for c in e.choices) == "Not with us."
    assert events[-1].usage is not None
    assert setup.upstream.requests == []


async def test_a_blocked_completion(start: Any, say: Any) -> None:
    setup = await start()
    setup.upstream.reply(
        "It goes well at first. " * 20 + "Then a forbidden phrase. " + "More. " * 50, delivery=Delivery(split=5)
    )
    unary = await setup.client.chat.completions.create(model="m", messages=say("hi"))
    assert (unary.choices[0].finish_reason, unary.choices[0].message.content) == ("content_filter", "Not with us.")
    stream = await setup.client.chat.completions.create(
        model="m", messages=say("hi"), stream=True, stream_options={"include_usage": True}
    )
    events = [event async for event in stream]
    text = "".join(c.delta.content or "" for e in events for c in e.choices)
    assert "forbidden" not in text
    assert text.startswith("It goes well at first.")
    assert [c.finish_reason for e in events for c in e.choices if c.finish_reason] == ["content_filter"]
    assert events[-1].usage is not None
    raw = setup.upstream.last
    assert raw.disconnected or raw.document["stream"]


async def test_every_choice_and_every_message_is_read(start: Any) -> None:
    setup = await start()
    setup.upstream.reply(choices=["fine", "in zanzibar", Choice(text="", refusal="no zanzibar", reasoning="zanzibar?")])
    answer = await setup.client.chat.completions.create(model="m", n=3, messages=[{"role": "user", "content": "hi"}])
    assert b"zanzibar" not in answer.model_dump_json().encode()
    assert answer.choices[2].message.refusal == "no [MASKED]"
    for role in ("system", "developer", "user", "assistant"):
        with pytest.raises(openai.BadRequestError):
            await setup.client.chat.completions.create(
                model="m",
                messages=[{"role": role, "content": "forbidden phrase"}, {"role": "user", "content": "hi"}],  # type: ignore[list-item,misc]
            )
    assert len(setup.upstream.requests) == 1


@pytest.mark.parametrize(
    "more",
    [
        {
            "messages": [
                {
                    "role": "user",
                    "content": [{"type": "text", "text": "forbidden "}, {"type": "text", "text": "phrase"}],
                }
            ]
        },
        {"messages": [{"role": "user", "content": "hi", "name": "forbidden phrase"}]},
        {"messages": [{"role": "user", "content": "hi", "x_extra": {"deep": ["forbidden phrase"]}}]},
        {"messages": [{"role": "tool", "tool_call_id": "1", "content": '{"page": "forbidden\\u0020phrase"}'}]},
        {"tools": [{"type": "function", "function": {"name": "f", "description": "forbidden phrase"}}]},
        {
            "functions": [
                {"name": "f", "parameters": {"type": "object", "properties": {"a": {"enum": ["forbidden phrase"]}}}}
            ]
        },
        {"prediction": {"type": "content", "content": "forbidden phrase"}},
        {"guided_something": "forbidden phrase"},
        {"messages": [{"role": "user", "content": "f\u200borbidden phrase"}]},
        {"messages": [{"role": "user", "content": "ｆｏｒｂｉｄｄｅｎ phrase"}]},
    ],
)
async def test_no_member_of_a_request_is_a_way_round(start: Any, more: dict[str, Any]) -> None:
    setup = await start()
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], **more}
    async with aiohttp.ClientSession() as session, session.post(f"{setup.proxy.url}/chat/completions", json=body) as r:
        assert (r.status, (await r.json())["error"]["code"]) == (400, "content_filter")
    assert setup.upstream.requests == []


async def test_tool_calls_are_parsed_and_restored_in_pieces(start: Any, say: Any) -> None:
    setup = await start()

    def reply(document: Any) -> Any:
        name = document["messages"][0]["content"].split()[-1]
        return make_reply(
            tool_calls=[{"name": "send", "arguments": {"to": name, "cc": f"eve@{'example.net'}", "n": 1.0}}]
        )

    setup.upstream.reply(reply, delivery=Delivery(split=2))
    unary = await setup.client.chat.completions.create(model="m", messages=say(f"write to {MAIL}"))
    expected = {"to": MAIL, "cc": "[EMAIL_ADDRESS]", "n": 1.0}
    assert json.loads(unary.choices[0].message.tool_calls[0].function.arguments) == expected
    stream = await setup.client.chat.completions.create(model="m", messages=say(f"write to {MAIL}"), stream=True)
    arguments, finish = "", None
    async for event in stream:
        for choice in event.choices:
            for call in choice.delta.tool_calls or ():
                arguments += call.function.arguments or ""
            finish = choice.finish_reason or finish
    assert (json.loads(arguments), finish) == (expected, "tool_calls")


async def test_parts_that_are_no_text_go_by_the_policy(start: Any) -> None:
    setup = await start()
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
    audio = {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}}
    ask = {"type": "text", "text": "what is it?"}
    await setup.client.chat.completions.create(model="m", messages=[{"role": "user", "content": [ask, image]}])
    with pytest.raises(openai.BadRequestError):
        await setup.client.chat.completions.create(model="m", messages=[{"role": "user", "content": [ask, audio]}])
    with pytest.raises(openai.BadRequestError):
        await setup.client.completions.create(model="m", prompt=[1, 2, 3])
    assert len(setup.upstream.requests) == 1


async def test_completions(start: Any) -> None:
    setup = await start()
    setup.upstream.reply("Then to Zanzibar we went. " * 10, delivery=Delivery(split=3))
    unary = await setup.client.completions.create(model="m", prompt=["one", "two"])
    assert "Zanzibar" not in unary.choices[0].text
    stream = await setup.client.completions.create(model="m", prompt="one", stream=True)
    assert "".join([c.text async for e in stream for c in e.choices]) == unary.choices[0].text
    with pytest.raises(openai.BadRequestError):
        await setup.client.completions.create(model="m", prompt=["one", "forbidden phrase"])
    with pytest.raises(openai.BadRequestError):
        await setup.client.completions.create(model="m", prompt="one", suffix="forbidden phrase")


async def test_responses(start: Any) -> None:
    setup = await start()
    setup.upstream.reply("Off to Zanzibar, then. " * 10, delivery=Delivery(split=3))
    unary = await setup.client.responses.create(model="m", input=f"mail {MAIL}", instructions="be kind")
    assert unary.output_text == "Off to [MASKED], then. " * 10
    assert MAIL not in json.dumps(setup.upstream.last.document)
    text, final = "", None
    async for event in await setup.client.responses.create(model="m", input="hi", stream=True):
        if event.type == "response.output_text.delta":
            text += event.delta
        if event.type == "response.output_text.done":
            assert event.text == text
        if event.type == "response.completed":
            final = event.response.output_text
    assert text == final == unary.output_text
    for blocked in ({"input": "forbidden phrase"}, {"input": "hi", "instructions": "forbidden phrase"}):
        with pytest.raises(openai.BadRequestError):
            await setup.client.responses.create(model="m", **blocked)


async def test_a_blocked_response_and_its_stream(start: Any) -> None:
    setup = await start()
    setup.upstream.reply("It goes on. " * 30 + "forbidden phrase " + "more. " * 30, delivery=Delivery(split=6))
    unary = await setup.client.responses.create(model="m", input="hi")
    assert (unary.status, unary.incomplete_details.reason) == ("incomplete", "content_filter")
    events = [event async for event in await setup.client.responses.create(model="m", input="hi", stream=True)]
    assert events[-1].type == "response.incomplete"
    assert "forbidden" not in json.dumps([event.model_dump() for event in events])


async def test_embeddings_moderations_models(start: Any) -> None:
    setup = await start()
    answer = await setup.client.embeddings.create(model="m", input=["hello", f"mail {MAIL}"], encoding_format="float")
    assert len(answer.data) == 2
    assert setup.upstream.last.document["input"] == ["hello", "mail [EMAIL_ADDRESS_1]"]  # the same every time
    with pytest.raises(openai.BadRequestError):
        await setup.client.embeddings.create(model="m", input="forbidden phrase")
    with pytest.raises(openai.BadRequestError):
        await setup.client.embeddings.create(model="m", input=[[1, 2]])
    assert (await setup.client.moderations.create(input="forbidden phrase")).results
    assert [model.id async for model in await setup.client.models.list()]


async def test_messages_of_the_anthropic_client(start: Any) -> None:
    setup = await start()
    client = anthropic.AsyncAnthropic(base_url=setup.proxy.url.removesuffix("/v1"), api_key="k", max_retries=0)
    try:
        answer = await client.messages.create(
            model="m", max_tokens=50, messages=[{"role": "user", "content": f"Mail {MAIL} from Zanzibar"}]
        )
        assert answer.content[0].text == f"You said: Mail {MAIL} from [MASKED]"
        assert MAIL not in json.dumps(setup.upstream.last.document)
        setup.upstream.reply("Word. " * 40 + "zanzibar", delivery=Delivery(split=3))
        async with client.messages.stream(
            model="m", max_tokens=50, messages=[{"role": "user", "content": "hi"}]
        ) as stream:
            assert await stream.get_final_text() == "Word. " * 40 + "[MASKED]"
        with pytest.raises(anthropic.BadRequestError):
            await client.messages.create(
                model="m", max_tokens=5, system="forbidden phrase", messages=[{"role": "user", "content": "hi"}]
            )
    finally:
        await client.close()


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/v1/audio/speech", 403),
        ("POST", "/v1/images/generations", 403),
        ("PUT", "/v1/chat/completions", 403),
        ("POST", "/v1/chat/completions/", 404),
        ("POST", "/v1//chat/completions", 400),
        ("POST", "/v1/chat/%63ompletions", 400),
        ("POST", "/v1/x/../chat/completions", 400),
        ("POST", "/V1/chat/completions", 404),
        ("GET", "/metrics", 403),
    ],
)
@pytest.mark.parametrize("unguarded", ["deny", "allow"])
async def test_other_routes(start: Any, policy: str, method: str, path: str, status: int, unguarded: str) -> None:
    setup = await start(policy.replace("unguarded: deny", f"unguarded: {unguarded}"))
    url = URL(setup.proxy.url.removesuffix("/v1") + path, encoded=True)
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, url, json={"input": "forbidden phrase"}) as r,
    ):
        if unguarded == "deny" or status != 403:
            assert r.status == status
            assert setup.upstream.requests == []
        else:
            assert len(setup.upstream.requests) == 1
