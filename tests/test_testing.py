"""The pretend upstream, through the official clients, and byte by byte where they would hide what is sent."""

from __future__ import annotations

import asyncio
import json
import zlib
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import anthropic
import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guardproxy.errors import ConfigError
from guardproxy.testing import Choice, Cut, Delivery, Hang, Raw, ToolCall, Upstream, faults, into
from guardproxy.testing.delivery import Event, cut, pieces, render, stream
from guardproxy.testing.processes import running, upstream_process
from guardproxy.testing.replies import GREETING, canned, last_words, tokens

ASK: list[Any] = [{"role": "user", "content": "where is it?"}]
TEXT = "Grüße, 😀 said: ok"


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    async with Upstream() as server:
        yield server


@pytest.fixture
async def client(upstream: Upstream) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=upstream.url, api_key="none", max_retries=0, timeout=5) as made:
        yield made


@pytest.fixture
async def claude(upstream: Upstream) -> AsyncIterator[anthropic.AsyncAnthropic]:
    async with anthropic.AsyncAnthropic(base_url=upstream.url[:-3], api_key="none", max_retries=0) as made:
        yield made


async def post(upstream: Upstream, document: Any, route: str = "chat/completions") -> bytes:
    async with aiohttp.ClientSession() as session, session.post(f"{upstream.url}/{route}", json=document) as response:
        return await response.read()


class TestCanned:
    @pytest.mark.parametrize(
        ("document", "said"),
        [
            ({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}, "a"),
            ({"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image_url"}]}]}, "a"),
            ({"input": [{"role": "user", "content": [{"type": "input_text", "text": "a"}]}]}, "a"),
            ({"input": "a"}, "a"),
            ({"prompt": ["x", "a"]}, "a"),
            ({"messages": "nonsense"}, "nonsense"),
            ({"messages": [None, 3]}, ""),
            ({"prompt": [1, 2]}, ""),
            ([], ""),
        ],
    )
    def test_last_words(self, document: Any, said: str) -> None:
        assert last_words(document) == said

    def test_echo_greeting_tool_and_json(self) -> None:
        assert canned({"prompt": "a b"}).choices[0].text == "You said: a b"
        assert canned({"prompt": "Hello!"}).choices[0].text == GREETING
        tools = [{"type": "function", "function": {"name": "find"}}]
        call = canned({"prompt": "x", "tools": tools, "tool_choice": "required"}).choices[0].tool_calls[0]
        assert (call.name, json.loads(call.arguments)) == ("find", {"input": "x"})
        assert canned({"prompt": "x", "tools": tools}).choices[0].tool_calls == ()
        assert (
            canned({"prompt": "x", "response_format": {"type": "json_object"}}).choices[0].text == '{"you_said": "x"}'
        )

    @given(st.text())
    def test_tokens_join_to_the_text(self, text: str) -> None:
        assert "".join(tokens(text)) == text


class TestDelivery:
    @given(st.text(min_size=1), st.integers(1, 9))
    def test_pieces_join_to_the_text(self, text: str, size: int) -> None:
        for split in ("tokens", size, into(size)):
            assert "".join(pieces(text, split)) == text
        assert len(pieces(text, into(size))) == min(size, len(text))
        assert all(len(piece) <= size for piece in pieces(text, size))

    def test_given_splits_serve_their_own_text_alone(self) -> None:
        assert pieces("abc", ["a", "", "bc"]) == ["a", "", "bc"]
        assert pieces("other", ["a", "bc"]) == ["other"]
        assert pieces("", 3) == []

    @given(st.lists(st.binary(max_size=20)), st.lists(st.integers(1, 7), min_size=1))
    @settings(max_examples=50)
    def test_cut_keeps_every_byte_and_the_sizes(self, parts: list[bytes], sizes: list[int]) -> None:
        writes = list(cut(iter(parts), sizes))
        assert b"".join(writes) == b"".join(parts)
        for index, write in enumerate(writes[:-1]):
            assert len(write) == sizes[index % len(sizes)]

    def test_an_event_in_its_manners(self) -> None:
        event = Event({"a": "é"}, "message")
        assert render(event, Delivery()) == 'event: message\ndata: {"a":"é"}\n\n'.encode()
        assert render(event, Delivery(newline="\r", tight=True, escape=True)) == (
            b'event:message\rdata:{"a":"\\u00e9"}\r\r'
        )
        assert render(Event({"a": 1}), Delivery(newline="\r\n", multiline=True)) == (
            b'data: {\r\ndata:  "a": 1\r\ndata: }\r\n\r\n'
        )

    def test_comments_byte_order_mark_and_compression(self) -> None:
        events = [Event("a"), Event("b"), Event("c")]
        plain = b"\xef\xbb\xbf: keep-alive\n\ndata: a\n\ndata: b\n\n: keep-alive\n\ndata: c\n\n"
        assert b"".join(stream(events, Delivery(comments=2, bom=True))) == plain
        parts = list(stream(events, Delivery(comments=2, bom=True, encoding="gzip")))
        unpack = zlib.decompressobj(wbits=31)
        assert unpack.decompress(parts[0]).endswith(b"data: a\n\n")  # each event can be read as it comes
        assert unpack.decompress(parts[1]) == b"data: b\n\n"


class TestChat:
    async def test_whole(self, upstream: Upstream, client: openai.AsyncOpenAI) -> None:
        answer = await client.chat.completions.create(model="m", messages=ASK)
        assert answer.choices[0].message.content == "You said: where is it?"
        assert (answer.model, answer.choices[0].finish_reason) == ("m", "stop")
        assert answer.usage is not None
        assert answer.usage.completion_tokens == len(tokens("You said: where is it?"))
        assert upstream.last.document["messages"] == ASK
        assert upstream.last.headers["AUTHORIZATION"] == "Bearer none"
        assert (upstream.last.method, upstream.last.path) == ("POST", "/v1/chat/completions")

    @pytest.mark.parametrize(
        "delivery",
        [
            Delivery(),
            Delivery(split=1, writes=1),
            Delivery(newline="\r\n", writes=[1, 2, 3, 5], comments=1),
            Delivery(multiline=True, tight=True, encoding="gzip", writes=7),
            Delivery(split=into(2), encoding="deflate", escape=True),
        ],
    )
    async def test_stream(self, upstream: Upstream, client: openai.AsyncOpenAI, delivery: Delivery) -> None:
        call = {"name": "mail", "arguments": {"to": "Jürgen"}}
        upstream.reply(TEXT, reasoning="Hm, é", tool_calls=[call, call], delivery=delivery)
        options: Any = {"include_usage": True}
        async with client.chat.completions.stream(model="m", messages=ASK, stream_options=options) as events:
            answer = await events.get_final_completion()
        message = answer.choices[0].message
        assert message.content == TEXT
        assert message.reasoning_content == "Hm, é"  # type: ignore[attr-defined]
        assert message.tool_calls is not None
        assert [tool.function.arguments for tool in message.tool_calls] == ['{"to": "Jürgen"}'] * 2
        assert len({tool.id for tool in message.tool_calls}) == 2
        assert answer.choices[0].finish_reason == "tool_calls"
        assert answer.usage is not None
        assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens

    async def test_choices_take_turns_and_carry_log_probabilities(
        self, upstream: Upstream, client: openai.AsyncOpenAI
    ) -> None:
        upstream.reply(
            choices=["ab", Choice(refusal="no"), Choice(text="cut", finish="length")], delivery=Delivery(split=1)
        )
        chunks = [
            chunk.choices[0]
            async for chunk in await client.chat.completions.create(
                model="m", messages=ASK, n=3, stream=True, logprobs=True
            )
        ]
        assert [choice.index for choice in chunks[:6]] == [0, 1, 2, 0, 1, 2]
        texts = ["".join(c.delta.content or "" for c in chunks if c.index == index) for index in range(3)]
        assert texts == ["ab", "", "cut"]
        assert "".join(c.delta.refusal or "" for c in chunks) == "no"
        assert [c.finish_reason for c in chunks if c.finish_reason] == ["stop", "stop", "length"]
        logprobs = [c.logprobs.content[0].token for c in chunks if c.logprobs and c.logprobs.content and c.index == 0]
        assert logprobs == ["a", "b"]

    async def test_more_choices_than_replies(self, client: openai.AsyncOpenAI) -> None:
        answer = await client.chat.completions.create(model="m", messages=ASK, n=3)
        assert [choice.index for choice in answer.choices] == [0, 1, 2]

    async def test_legacy_functions(self, upstream: Upstream, client: openai.AsyncOpenAI) -> None:
        upstream.reply(tool_calls=[ToolCall("find", '{"a":1}')], delivery=Delivery(split=2))
        functions: Any = [{"name": "find"}]
        answer = await client.chat.completions.create(model="m", messages=ASK, functions=functions)
        assert answer.choices[0].finish_reason == "function_call"
        assert answer.choices[0].message.function_call is not None
        assert answer.choices[0].message.function_call.arguments == '{"a":1}'
        body = await post(upstream, {"messages": ASK, "functions": functions, "stream": True})
        parts = [
            json.loads(line[6:])["choices"][0]["delta"]
            for line in body.decode().splitlines()
            if "function_call" in line and '"delta":{}' not in line
        ]
        assert "".join(part["function_call"]["arguments"] for part in parts) == '{"a":1}'

    async def test_no_usage_unless_asked_for_and_done_at_the_end(self, upstream: Upstream) -> None:
        body = await post(upstream, {"messages": ASK, "stream": True})
        assert b"usage" not in body
        assert body.endswith(b"data: [DONE]\n\n")
        upstream.reply(delivery=Delivery(done=False))
        assert b"[DONE]" not in await post(upstream, {"messages": ASK, "stream": True})


class TestOtherApis:
    async def test_completions(self, upstream: Upstream, client: openai.AsyncOpenAI) -> None:
        upstream.reply(TEXT, delivery=Delivery(split=3))
        answer = await client.completions.create(model="m", prompt=["a", "b"], echo=True, logprobs=1)
        assert [choice.text for choice in answer.choices] == [f"a{TEXT}", f"b{TEXT}"]
        logprobs = answer.choices[0].logprobs
        assert logprobs is not None
        assert logprobs.tokens is not None
        assert logprobs.text_offset is not None
        assert [f"a{TEXT}"[start] for start in logprobs.text_offset] == [token[0] for token in logprobs.tokens]
        parts = [part async for part in await client.completions.create(model="m", prompt="a", stream=True)]
        assert "".join(part.choices[0].text for part in parts) == TEXT
        assert parts[-1].choices[0].finish_reason == "stop"

    async def test_responses(self, upstream: Upstream, client: openai.AsyncOpenAI) -> None:
        call = ToolCall("find", '{"name":"é"}')
        upstream.reply(TEXT, refusal="No.", reasoning="Hm.", tool_calls=[call], delivery=Delivery(split=2, writes=3))
        whole = await client.responses.create(model="m", input="a")
        assert [item.type for item in whole.output] == ["reasoning", "message", "function_call"]
        assert whole.output_text == TEXT
        async with client.responses.stream(model="m", input="a") as events:
            seen = [event async for event in events]
            final = await events.get_final_response()
        assert final.output_text == TEXT
        assert final.output[2].arguments == call.arguments  # type: ignore[union-attr]
        assert [event.sequence_number for event in seen] == list(range(len(seen)))
        refusal = "".join(event.delta for event in seen if event.type == "response.refusal.delta")
        assert refusal == "No."
        assert seen[-1].type == "response.completed"

    async def test_an_incomplete_response(self, upstream: Upstream, client: openai.AsyncOpenAI) -> None:
        upstream.reply("a", finish="content_filter")
        answer = await client.responses.create(model="m", input="a")
        assert answer.status == "incomplete"
        assert answer.incomplete_details is not None
        assert answer.incomplete_details.reason == "content_filter"

    async def test_messages(self, upstream: Upstream, claude: anthropic.AsyncAnthropic) -> None:
        upstream.reply(
            TEXT, reasoning="Hm.", tool_calls=[{"name": "f", "arguments": {"a": [1]}}], delivery=Delivery(split=2)
        )
        ask: Any = {"model": "m", "max_tokens": 9, "messages": ASK}
        whole = await claude.messages.create(**ask)
        async with claude.messages.stream(**ask) as events:
            streamed = await events.get_final_message()
        for message in (whole, streamed):
            kinds = {block.type: block for block in message.content}
            assert list(kinds) == ["thinking", "text", "tool_use"]
            assert kinds["text"].text == TEXT  # type: ignore[union-attr]
            assert kinds["tool_use"].input == {"a": [1]}  # type: ignore[union-attr]
            assert message.stop_reason == "tool_use"
            assert message.usage.output_tokens == whole.usage.output_tokens > 0
        assert (await claude.messages.count_tokens(model="m", messages=ASK)).input_tokens == whole.usage.input_tokens

    async def test_embeddings_agree_in_both_encodings(self, client: openai.AsyncOpenAI) -> None:
        coded = await client.embeddings.create(model="m", input=["a", "b"], dimensions=40)
        plain = await client.embeddings.create(model="m", input="b", dimensions=40, encoding_format="float")
        assert coded.data[1].embedding == plain.data[0].embedding
        assert coded.data[0].embedding != plain.data[0].embedding
        assert len(plain.data[0].embedding) == 40
        tokens_given = await client.embeddings.create(model="m", input=[[1, 2], [3]])
        assert len(tokens_given.data) == 2
        assert len((await client.embeddings.create(model="m", input=[1, 2])).data) == 1

    async def test_moderations_models_and_the_unknown(self, client: openai.AsyncOpenAI) -> None:
        assert [result.flagged for result in (await client.moderations.create(input=["a", "b"])).results] == [False] * 2
        names = [model.id async for model in client.models.list()]
        assert "pretend" in names
        assert (await client.models.retrieve("pretend")).id == "pretend"
        with pytest.raises(openai.NotFoundError, match="/v1/audio/speech"):
            await client.audio.speech.create(model="m", input="a", voice="alloy")


class TestScripts:
    async def test_answers_for_a_number_of_requests_come_first(self, upstream: Upstream, client: Any) -> None:
        upstream.reply("always")
        upstream.reply("twice", times=2)
        upstream.reply(faults.status(429), times=1)
        upstream.reply(lambda document: document["model"] * 2, times=1)
        said = []
        for _ in range(5):
            try:
                answer = await client.chat.completions.create(model="m", messages=ASK)
                said.append(answer.choices[0].message.content)
            except openai.RateLimitError:
                said.append("429")
        assert said == ["twice", "twice", "429", "mm", "always"]
        upstream.reset()
        assert upstream.requests == []
        answer = await client.chat.completions.create(model="m", messages=ASK)
        assert answer.choices[0].message.content.startswith("You said")

    async def test_an_asynchronous_function_can_wait_for_the_test(self, upstream: Upstream, client: Any) -> None:
        gate = asyncio.Event()

        async def answer(document: Any) -> str:
            await gate.wait()
            return "at last"

        upstream.reply(answer)
        pending = asyncio.create_task(client.chat.completions.create(model="m", messages=ASK))
        await upstream.wait_for(lambda up: up.requests)
        assert not pending.done()
        gate.set()
        assert (await pending).choices[0].message.content == "at last"

    async def test_a_fault_with_text_is_a_mistake(self, upstream: Upstream) -> None:
        with pytest.raises(TypeError):
            upstream.reply(Hang(), text="a")

    async def test_two_servers_say_the_same_bytes(self) -> None:
        bodies = []
        for _ in range(2):
            async with Upstream() as upstream:
                bodies.append(await post(upstream, {"messages": ASK, "stream": True, "n": 2}))
        assert bodies[0] == bodies[1]


class TestFailures:
    @pytest.mark.parametrize(
        ("fault", "error"),
        [
            (faults.status(400), openai.BadRequestError),
            (faults.status(401), openai.AuthenticationError),
            (faults.status(503, retry_after=3), openai.InternalServerError),
            (faults.html(502), openai.InternalServerError),
            (Cut(), openai.APIConnectionError),
            (faults.garbage(), UnicodeDecodeError),
            (faults.half_json(), json.JSONDecodeError),
        ],
    )
    async def test_the_client_fails_as_it_should(self, upstream: Upstream, client: Any, fault: Any, error: Any) -> None:
        upstream.reply(fault)
        with pytest.raises(error):
            await client.chat.completions.create(model="m", messages=ASK)

    async def test_duplicate_keys_and_size(self, upstream: Upstream, client: Any) -> None:
        upstream.reply(faults.duplicate_keys("first", "second"))
        body = await post(upstream, {})
        assert body.count(b'"content":') == 2
        assert json.loads(body)["choices"][0]["message"]["content"] == "second"
        upstream.reply(faults.huge(1_000_000))
        answer = await client.chat.completions.create(model="m", messages=ASK)
        assert 1_000_000 <= len(answer.choices[0].message.content) < 1_100_000

    async def test_a_bomb_is_small_on_the_wire(self, upstream: Upstream) -> None:
        fault = faults.bomb(10_000_000)
        assert len(fault.body) < 20_000
        upstream.reply(fault)
        assert len(await post(upstream, {})) > 9_900_000

    async def test_a_document_that_is_none(self, upstream: Upstream) -> None:
        async with aiohttp.ClientSession() as session:
            for body in (b"nonsense", b"[" * 100_000, b"3"):
                async with session.post(f"{upstream.url}/chat/completions", data=body) as response:
                    assert response.status == 400
                    assert (await response.json())["error"]["type"] == "invalid_request_error"
        assert upstream.requests[0].document is None

    async def test_hanging_before_and_within(self, upstream: Upstream, client: Any) -> None:
        upstream.reply(Hang())
        with pytest.raises(openai.APITimeoutError):
            await client.with_options(timeout=0.1).chat.completions.create(model="m", messages=ASK)
        await upstream.wait_for(lambda up: up.disconnects == 1)
        upstream.reply("abc", delivery=Delivery(split=1, hang_after=3))
        patient = client.with_options(timeout=0.1)
        events = await patient.chat.completions.create(model="m", messages=ASK, stream=True)
        said = [(await anext(events)).choices[0].delta.content for _ in range(3)]
        assert said == ["", "a", "b"]
        with pytest.raises(openai.APITimeoutError):
            await anext(events)
        await upstream.wait_for(lambda up: up.disconnects == 2)
        assert upstream.last.writes == 3

    async def test_a_client_that_leaves_is_seen(self, upstream: Upstream, client: Any) -> None:
        upstream.reply("abc" * 1000, delivery=Delivery(split=1, pause=0.001))
        events = await client.chat.completions.create(model="m", messages=ASK, stream=True)
        async for _ in events:
            break
        await events.close()
        await upstream.wait_for(lambda up: up.last.disconnected)
        assert upstream.last.writes < 1000

    async def test_breaking_off(self, upstream: Upstream, client: Any) -> None:
        upstream.reply("abc", delivery=Delivery(split=1, cut_after=2))
        with pytest.raises(openai.APIConnectionError):
            [_ async for _ in await client.chat.completions.create(model="m", messages=ASK, stream=True)]
        upstream.reply("abc", delivery=Delivery(cut_after=40))
        with pytest.raises(openai.APIConnectionError):
            await client.chat.completions.create(model="m", messages=ASK)
        assert upstream.disconnects == 0  # it was the upstream that left

    async def test_an_error_inside_a_stream(self, upstream: Upstream, client: Any, claude: Any) -> None:
        upstream.reply("abc", delivery=Delivery(split=1, error_after=3))
        with pytest.raises(openai.APIError, match="broke"):
            [_ async for _ in await client.chat.completions.create(model="m", messages=ASK, stream=True)]
        body = await post(upstream, {"messages": ASK, "stream": True})
        assert body.count(b"data: ") == 5
        assert body.endswith(b"data: [DONE]\n\n")
        with pytest.raises(anthropic.APIStatusError, match="broke"):
            async with claude.messages.stream(model="m", max_tokens=9, messages=ASK) as events:
                await events.get_final_message()

    async def test_refusing_and_accepting_again(self, upstream: Upstream) -> None:
        url = upstream.url
        await upstream.refuse()
        with pytest.raises(aiohttp.ClientConnectorError):
            await post(upstream, {"messages": ASK})
        await upstream.accept()
        assert upstream.url == url
        assert b"where is it?" in await post(upstream, {"messages": ASK})

    async def test_wrong_type_and_a_raw_answer_on_any_route(self, upstream: Upstream) -> None:
        upstream.reply(delivery=Delivery(content_type="text/plain"))
        async with aiohttp.ClientSession() as session:
            async with session.post(f"{upstream.url}/chat/completions", json={"stream": True}) as response:
                assert response.content_type == "text/plain"
            upstream.reply(Raw(b"hello", status=201, content_type="text/x", headers={"X-Odd": "1"}))
            async with session.get(f"{upstream.url}/files?a=1") as response:
                assert (response.status, await response.read(), response.headers["X-Odd"]) == (201, b"hello", "1")
        assert upstream.last.path == "/v1/files?a=1"


class TestProcesses:
    async def test_the_pretend_upstream(self) -> None:
        async with (
            upstream_process(answer_bytes=10, events=2) as url,
            aiohttp.ClientSession() as session,
            session.post(f"{url}/completions", json={"prompt": "a", "stream": True}) as response,
        ):
            lines = (await response.text()).split("\n\n")
        assert [json.loads(line[6:])["choices"][0]["text"] for line in lines[:-2]] == ["The q", "uick ", ""]

    async def test_one_that_cannot_start_says_why(self) -> None:
        command = ["-m", "guardproxy.testing", "--port", "x"]
        with pytest.raises(ConfigError, match=r"(?s)stopped before it was ready:.*--port"):
            async with running("pretend upstream", command, "http://127.0.0.1:1/"):
                pass
