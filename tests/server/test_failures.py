"""Failures and bad input: a clear error in the API's shape, nothing unguarded, and a proxy that goes on."""

import asyncio
import base64
import gzip
import io
import json
import zlib
from typing import Any

import aiohttp
import openai
import pytest

from guardproxy.backends.base import Answer
from guardproxy.backends.stub import HANG, Delay, Nonsense, Stub, abstain
from guardproxy.errors import BackendError
from guardproxy.testing import Cut, Delivery, Hang, Raw, faults

SMALL = {"max_body": "64KiB", "max_response": "256KiB", "max_held": "64KiB"}
CLEAN = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


async def post(setup: Any, body: Any, path: str = "/chat/completions", **headers: str) -> tuple[int, Any]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    async with (
        aiohttp.ClientSession() as session,
        session.post(
            setup.proxy.url + path, data=io.BytesIO(data), headers={"Content-Type": "application/json", **headers}
        ) as response,
    ):
        raw = await response.read()
        assert "x-guardproxy-decision" in response.headers
        return response.status, json.loads(raw)


async def still_serves(setup: Any) -> None:
    setup.upstream.reply("well")
    status, document = await post(setup, CLEAN)
    assert (status, document["choices"][0]["message"]["content"]) == (200, "well")


def deflated(data: bytes, *, raw: bool) -> bytes:
    squeeze = zlib.compressobj(9, wbits=-15 if raw else 15)
    return squeeze.compress(data) + squeeze.flush()


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "bad_json"),
        (b"not json", 400, "bad_json"),
        (b"[1]", 400, "bad_json"),
        (b'"text"', 400, "bad_json"),
        (b'{"messages": [', 400, "bad_json"),
        (b'{"messages": []} trailing', 400, "bad_json"),
        (b'{"model":"a","model":"b"}', 400, "bad_json"),
        (b'{"messages":[{"role":"user","content":"ok","content":"forbidden phrase"}]}', 400, "bad_json"),
        (b'{"temperature": NaN}', 400, "bad_json"),
        (b'{"temperature": Infinity}', 400, "bad_json"),
        (b'{"x": "\\ud800"}', 400, "bad_json"),
        (b'{"x": "\xed\xa0\x80"}', 400, "bad_json"),
        (b'{"x": "\xff"}', 400, "bad_json"),
        (b'\xef\xbb\xbf{"model":"m"}', 400, "bad_json"),
        (b'{"x":' * 5000 + b"1" + b"}" * 5000, 400, "bad_json"),
        (b"[" * 100_000, 413, "body_too_large"),
        (b'{"x": "' + b"y" * 70_000 + b'"}', 413, "body_too_large"),
    ],
    ids=range(17),
)
async def test_a_body_that_cannot_be_read(start: Any, body: bytes, status: int, code: str) -> None:
    setup = await start(**SMALL)
    got, document = await post(setup, body)
    assert (got, document["error"]["code"], document["error"]["type"]) == (status, code, "invalid_request_error")
    assert "forbidden" not in json.dumps(document)
    assert setup.upstream.requests == []
    await still_serves(setup)


@pytest.mark.parametrize("coding", ["gzip", "deflate", "deflate-raw"])
async def test_bombs_are_refused_and_honest_compression_is_read(start: Any, coding: str) -> None:
    setup = await start(**SMALL)

    def packed(data: bytes) -> bytes:
        return gzip.compress(data) if coding == "gzip" else deflated(data, raw=coding.endswith("raw"))

    name = coding.removesuffix("-raw")
    bomb = packed(b'{"x": "' + b" " * 30_000_000 + b'"}')
    assert len(bomb) < 64 * 1024
    status, document = await post(setup, bomb, **{"Content-Encoding": name})
    assert (status, document["error"]["code"]) == (413, "body_too_large")
    stopped = {"model": "m", "messages": [{"role": "user", "content": "forbidden phrase"}]}
    status, document = await post(setup, packed(json.dumps(stopped).encode()), **{"Content-Encoding": name})
    assert (status, document["error"]["code"]) == (400, "content_filter")
    status, _ = await post(setup, packed(json.dumps(CLEAN).encode()), **{"Content-Encoding": name})
    assert status == 200
    assert setup.upstream.last.document == CLEAN
    assert "Content-Encoding" not in setup.upstream.last.headers


async def test_a_body_of_very_many_small_gzip_members_is_refused_at_once(start: Any) -> None:
    setup = await start()
    status, document = await post(setup, gzip.compress(b"") * 100_000, **{"Content-Encoding": "gzip"})
    assert (status, document["error"]["code"]) == (400, "bad_content_encoding")
    few = gzip.compress(b'{"model": "m", ') + gzip.compress(b'"messages": []}')
    assert (await post(setup, few, **{"Content-Encoding": "gzip"}))[0] == 200


@pytest.mark.parametrize(
    "charset", ["utf-7", "UTF-16", '"utf-16le"', "latin-1", "utf-8; charset=utf-7", "utf-8; charset*=us-ascii''utf-7"]
)
async def test_a_charset_that_would_make_the_body_say_something_else_is_refused(start: Any, charset: str) -> None:
    setup = await start()
    hidden = "+" + base64.b64encode("forbidden phrase".encode("utf-16-be")).decode().rstrip("=") + "-"
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": hidden}]}).encode()
    assert "forbidden phrase" in body.decode("utf-7")
    status, document = await post(setup, body, **{"Content-Type": f"application/json; charset={charset}"})
    assert (status, document["error"]["code"]) == (415, "bad_charset")
    assert setup.upstream.requests == []
    for good in ("utf-8", '"UTF-8"', "us-ascii"):
        assert (await post(setup, CLEAN, **{"Content-Type": f"application/json; charset={good}"}))[0] == 200


async def test_very_many_messages_neither_hold_up_others_nor_outlast_the_deadline(start: Any, policy: str) -> None:
    setup = await start(policy.replace("unguarded: deny", "unguarded: deny\ndeadline: 200ms"))
    messages = [{"role": "user", "content": f"Zanzibar, time and again, number {number}"} for number in range(30_000)]
    many = asyncio.create_task(post(setup, {"model": "m", "messages": messages}))
    answered = 0
    while not many.done():
        await post(setup, CLEAN)
        answered += 1
    status, document = await many
    assert (status, document["error"]["code"]) == (400, "content_filter")  # what was not judged in time is not clean
    assert answered > 2


@pytest.mark.parametrize(("coding", "status"), [("br", 415), ("gzip", 400), ("deflate", 400), ("gzip, br", 415)])
async def test_a_coding_that_is_unknown_or_a_lie(start: Any, coding: str, status: int) -> None:
    setup = await start()
    got, _ = await post(setup, json.dumps(CLEAN).encode(), **{"Content-Encoding": coding})
    assert got == status
    assert setup.upstream.requests == []


async def test_a_client_that_asks_before_it_sends_is_told_to(start: Any) -> None:
    setup = await start()
    host, port = setup.proxy.url.removeprefix("http://").removesuffix("/v1").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    body = json.dumps(CLEAN).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    writer.write(head.encode())
    assert await asyncio.wait_for(reader.readline(), 5) == b"HTTP/1.1 100 Continue\r\n"
    await reader.readline()
    writer.write(body)
    assert b" 200 " in await asyncio.wait_for(reader.readline(), 5)
    writer.close()


async def test_what_is_remembered_is_told_apart_by_credential(start: Any, policy: str) -> None:
    """Backends know whose text they read by a hash that is the same for one key, and another for any other."""
    seen: list[str] = []

    class Spy(Stub):
        async def classify(self, check: str, readings: Any, **keywords: Any) -> Any:
            seen.extend(reading.tenant for reading in readings)
            return await super().classify(check, readings, **keywords)

    setup = await start(with_backend(policy), backends={"stub": lambda _: Spy({})})
    told = []
    for key in ("key-one", "key-two", "key-one"):
        client = setup.client.with_options(api_key=key)
        await client.chat.completions.create(model="m", messages=[{"role": "user", "content": "hello"}])
        told.append(set(seen))
        seen.clear()
    assert [len(tenants) for tenants in told] == [1, 1, 1]
    assert told[0] == told[2] != told[1]
    assert not any("one" in tenant or "two" in tenant for tenants in told for tenant in tenants)


async def test_texts_of_a_request_are_judged_side_by_side(start: Any, policy: str) -> None:
    patient = with_backend(policy).replace("deadline: 200ms", "deadline: 30s")
    patient = patient.replace("unguarded: deny", "unguarded: deny\ndeadline: 30s")
    setup = await start(patient, backends={"stub": lambda _: Stub(lambda _: Delay(0.25))})
    messages = [{"role": "user", "content": f"text {number}"} for number in range(60)]
    began = asyncio.get_running_loop().time()
    await setup.client.chat.completions.create(model="m", messages=messages)
    assert asyncio.get_running_loop().time() - began < 10  # one after the other they take fifteen


async def test_a_body_that_never_comes(start: Any) -> None:
    setup = await start(request_timeout="200ms")
    host, port = setup.proxy.url.removeprefix("http://").removesuffix("/v1").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
    await writer.drain()
    assert b" 408 " in await asyncio.wait_for(reader.readline(), 5)
    writer.close()
    await still_serves(setup)


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        (Cut(), 502, "upstream_broken"),
        (Hang(), 504, "upstream_timeout"),
        (faults.html(502), 502, "upstream_error"),
        (faults.html(200), 502, "upstream_content_type"),
        (faults.garbage(), 502, "upstream_bad_json"),
        (faults.garbage("text/event-stream"), 502, None),
        (faults.half_json(), 502, "upstream_bad_json"),
        (faults.duplicate_keys("fine", "forbidden phrase"), 502, "upstream_bad_json"),
        (faults.huge(400_000), 502, "upstream_too_large"),
        (faults.bomb(50_000_000), 502, "upstream_body_too_large"),
        (Raw(b"", 302, headers={"Location": "http://127.0.0.1:9/"}), 502, "upstream_redirect"),
        (Raw(b"[]", content_type="text/plain"), 502, "upstream_content_type"),
    ],
    ids=range(12),
)
@pytest.mark.parametrize("stream", [False, True])
async def test_an_upstream_that_fails(start: Any, fault: Any, status: int, code: str | None, stream: bool) -> None:
    setup = await start(upstream_timeout="300ms", **SMALL)
    setup.upstream.reply(fault)
    got, document = await post(setup, {**CLEAN, "stream": stream})
    assert got == status
    assert code is None or document["error"]["code"] == code
    assert document["error"]["message"]
    await still_serves(setup)


async def test_an_upstream_that_refuses_connections(start: Any, say: Any) -> None:
    setup = await start()
    await setup.upstream.refuse()
    with pytest.raises(openai.InternalServerError) as raised:
        await setup.client.chat.completions.create(model="m", messages=say("hi"))
    assert raised.value.code == "upstream_unreachable"
    await setup.upstream.accept()
    await still_serves(setup)


async def test_the_upstream_s_own_errors_reach_the_caller_and_are_read(start: Any, say: Any) -> None:
    setup = await start()
    setup.upstream.reply(faults.status(429, "Slow down.", retry_after=7))
    with pytest.raises(openai.RateLimitError) as raised:
        await setup.client.chat.completions.create(model="m", messages=say("hi"))
    assert raised.value.response.headers["Retry-After"] == "7"
    assert raised.value.message.endswith("'type': 'rate_limit_error', 'param': None, 'code': None}") or "Slow" in str(
        raised.value
    )
    setup.upstream.reply(faults.status(400, "You said: forbidden phrase"))
    status, document = await post(setup, CLEAN)
    assert (status, "forbidden" in json.dumps(document)) == (400, False)
    setup.upstream.reply(faults.status(401, "Incorrect API key."))
    with pytest.raises(openai.AuthenticationError):
        await setup.client.chat.completions.create(model="m", messages=say("hi"))


LONG = "This goes on for a while. " * 40


@pytest.mark.parametrize(
    "delivery",
    [
        Delivery(split=5, cut_after=60),
        Delivery(split=5, hang_after=60),
        Delivery(split=5, error_after=60),
        Delivery(split=5, cut_after=1),
    ],
    ids=["cut", "hang", "error", "cut at once"],
)
async def test_a_stream_that_dies_ends_with_an_error(start: Any, say: Any, delivery: Delivery) -> None:
    setup = await start(upstream_timeout="300ms")
    setup.upstream.reply(LONG, delivery=delivery)
    text = ""
    with pytest.raises(openai.APIError):
        async for event in await setup.client.chat.completions.create(model="m", messages=say("hi"), stream=True):
            text += "".join(choice.delta.content or "" for choice in event.choices)
    assert LONG.startswith(text)
    if delivery.cut_after != 1:
        assert len(text) > 200  # what had come and was clean was not lost
    await still_serves(setup)


async def test_a_stream_that_dies_before_a_forbidden_phrase_is_whole_gives_nothing_of_it(start: Any, say: Any) -> None:
    setup = await start()
    setup.upstream.reply("Go to zanzibar now", delivery=Delivery(split=["Go to zan", "zibar", " now"], cut_after=4))
    text = ""
    with pytest.raises(openai.APIError):
        async for event in await setup.client.chat.completions.create(model="m", messages=say("hi"), stream=True):
            text += "".join(choice.delta.content or "" for choice in event.choices)
    assert "zanzibar" not in text


async def test_an_answer_of_another_kind_than_was_asked_for_is_guarded_as_what_it_is(start: Any) -> None:
    setup = await start()
    event = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    delta = {"choices": [{"index": 0, "delta": {"content": "to zanzibar"}, "finish_reason": "stop"}]}
    raw = f"data: {json.dumps({**event, **delta})}\n\ndata: [DONE]\n\n".encode()
    setup.upstream.reply(Raw(raw, content_type="text/event-stream"))
    async with aiohttp.ClientSession() as session, session.post(f"{setup.proxy.url}/chat/completions", json=CLEAN) as r:
        assert b"[MASKED]" in await r.read()
    message = {
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "to zanzibar"}, "finish_reason": "stop"}]
    }
    setup.upstream.reply(Raw(json.dumps(message).encode()))
    status, document = await post(setup, {**CLEAN, "stream": True})
    assert (status, document["choices"][0]["message"]["content"]) == (200, "to [MASKED]")


async def test_a_caller_that_leaves_ends_the_upstream_s_call(start: Any, say: Any) -> None:
    setup = await start()
    setup.upstream.reply(LONG, delivery=Delivery(split=5, pause=0.02))
    stream = await setup.client.chat.completions.create(model="m", messages=say("hi"), stream=True)
    async for _ in stream:
        break
    await stream.close()
    await setup.client.close()
    await setup.upstream.wait_for(lambda upstream: upstream.disconnects == 1)


async def test_a_blocked_stream_ends_the_upstream_s_call(start: Any, say: Any) -> None:
    setup = await start()
    setup.upstream.reply("forbidden phrase. " + LONG * 3, delivery=Delivery(split=5, pause=0.01))
    async for _ in await setup.client.chat.completions.create(model="m", messages=say("hi"), stream=True):
        pass
    await setup.upstream.wait_for(lambda upstream: upstream.disconnects == 1)


def with_backend(policy: str, extra: str = "") -> str:
    ladder = "checks:\n  toxicity: {ladder: [stub], deadline: 200ms}\n"
    rule = "  - {id: toxic, where: everywhere, if: {check: toxicity, labels: [toxic], score: 0.5}, then: block}\n"
    return policy.replace("checks:\n", ladder).replace("rules:\n", "rules:\n" + rule + extra)


@pytest.mark.parametrize(
    "reply",
    [BackendError("down"), ValueError("hi"), HANG, *Nonsense, abstain("language unknown")],
    ids=lambda reply: getattr(reply, "name", type(reply).__name__),
)
async def test_a_check_that_fails_is_never_clean(start: Any, say: Any, policy: str, reply: Any) -> None:
    stubs = {"stub": lambda _: Stub(lambda _: reply)}
    setup = await start(with_backend(policy), backends=stubs)
    with pytest.raises(openai.BadRequestError) as raised:
        await setup.client.chat.completions.create(model="m", messages=say("hi"))
    assert raised.value.code == "content_filter"
    assert setup.upstream.requests == []


async def test_the_policy_may_let_a_failed_check_pass_for_prompts_alone(start: Any, say: Any, policy: str) -> None:
    opened = "  - {id: open, where: prompt, if: {outcome: [timeout, error], checks: [toxicity]}, then: allow}\n"
    policy = with_backend(policy, opened).replace(
        "  - {id: failed, where: everywhere", "  - {id: failed, where: [completion]"
    )
    setup = await start(policy, backends={"stub": lambda _: Stub(lambda _: BackendError("down"))})
    answer = await setup.client.chat.completions.create(model="m", messages=say("hi"))
    assert answer.choices[0].finish_reason == "content_filter"  # the prompt passed, the completion did not
    assert len(setup.upstream.requests) == 1


async def test_a_slow_check_holds_up_nobody_else(start: Any, say: Any, policy: str) -> None:
    setup = await start(
        with_backend(policy), backends={"stub": lambda _: Stub({"slow": HANG, "rude": Answer({"toxic": 0.9})})}
    )
    slow = asyncio.create_task(setup.client.chat.completions.create(model="m", messages=say("slow")))
    with pytest.raises(openai.BadRequestError):
        await setup.client.chat.completions.create(model="m", messages=say("rude"))
    answer = await setup.client.chat.completions.create(model="m", messages=say("kind"))
    assert answer.choices[0].message.content == "You said: kind"
    with pytest.raises(openai.BadRequestError):
        await slow


async def test_many_at_once_do_not_mix(start: Any, say: Any) -> None:
    setup = await start()
    setup.upstream.reply(delivery=Delivery(split=3))

    async def one(number: int) -> None:
        mail = f"user{number}@" + "example.org"
        stream = await setup.client.chat.completions.create(model="m", messages=say(f"Mail {mail} ok"), stream=True)
        text = "".join([c.delta.content or "" async for e in stream for c in e.choices])
        assert text == f"You said: Mail {mail} ok"

    await asyncio.gather(*(one(number) for number in range(40)))
    sent = [request.document["messages"][0]["content"] for request in setup.upstream.requests]
    assert not any("@" in text for text in sent)
    assert len(set(sent)) == 40  # every exchange has pseudonyms of its own
