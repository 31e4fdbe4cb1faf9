"""A proxy in front of a pretend upstream, on real sockets, and the official client before it."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import openai
import pytest
import pytest_asyncio

from guardproxy.testing import Upstream
from guardproxy.testing.proxy import Proxy

POLICY = r"""
name: test
version: "1"
unguarded: deny
parts: {image: allow, audio: deny, file: deny}
refusal: {message: "Not with us.", prompt: error, completion: completion}
checks:
  keywords:
    lists:
      MASKED: {words: [zanzibar]}
      STOPPED: {words: [forbidden phrase]}
rules:
  - id: names
    where: [prompt, tool_result]
    if: {check: pii, labels: [EMAIL_ADDRESS], score: 0.6}
    then: {rewrite: pseudonym}
  - id: names-out
    where: [completion, tool_call]
    if: {check: pii, labels: [EMAIL_ADDRESS], score: 0.6}
    then: {rewrite: mask}
  - {id: mask, where: everywhere, if: {check: keywords, labels: [MASKED]}, then: {rewrite: mask}}
  - {id: stop, where: everywhere, if: {check: keywords, labels: [STOPPED]}, then: block}
  - {id: failed, where: everywhere, if: {outcome: [abstained, timeout, error], checks: any}, then: block}
"""


class Setup:
    """What a test talks to."""

    def __init__(self, upstream: Upstream, proxy: Proxy, client: openai.AsyncOpenAI) -> None:
        self.upstream, self.proxy, self.client = upstream, proxy, client


@pytest_asyncio.fixture
async def start() -> AsyncIterator[Callable[..., Any]]:
    async with AsyncExitStack() as stack:

        async def begin(policy: str = POLICY, **settings: Any) -> Setup:
            upstream = await stack.enter_async_context(Upstream())
            settings.setdefault("backend", "rules")  # what is tested here is the proxy, not what the models know
            proxy = await stack.enter_async_context(Proxy(upstream.url, policy=policy, **settings))
            client = openai.AsyncOpenAI(base_url=proxy.url, api_key="caller-key", max_retries=0)
            stack.push_async_callback(client.close)
            return Setup(upstream, proxy, client)

        yield begin


@pytest.fixture
def policy() -> str:
    return POLICY


@pytest.fixture
def say() -> Callable[..., list[Any]]:
    def messages(text: str, **more: Any) -> list[Any]:
        return [{"role": "user", "content": text, **more}]

    return messages
