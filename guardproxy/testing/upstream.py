"""A small server that behaves like a model provider: as well, or as badly, as a test asks.

It listens on the loopback interface alone, answers the routes of shapes/ and plain.py and refuses all others as OpenAI
does, records every request, and never waits longer than it was told to. It never raises for what a client sends.
"""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from aiohttp import web
from multidict import CIMultiDict

from guardproxy.testing import faults
from guardproxy.testing.delivery import Delivery, to_json
from guardproxy.testing.faults import Cut, Fault, Hang, Raw
from guardproxy.testing.replies import Choice, Reply, Responder, ToolCall, canned, make_reply
from guardproxy.testing.sending import Received, Sender
from guardproxy.testing.shapes import SHAPES, Ask, plain

Answer = str | Reply | Fault | Responder

_MAX_BODY = 1 << 28  # bytes


@dataclass(slots=True)
class _Plan:
    answer: Answer
    delivery: Delivery
    times: int | None  # None for ever


class Upstream:
    """The server; an asynchronous context manager. `async with Upstream() as upstream: client(base_url=upstream.url)`.

    `requests` are all that came, oldest first. What is answered is canned (it repeats the last user message) until
    reply() says otherwise.
    """

    def __init__(self, *, host: str = "127.0.0.1", port: int = 0, delivery: Delivery | None = None) -> None:
        self.requests: list[Received] = []
        self._host, self._port = host, port
        self._delivery = delivery or Delivery()
        self._standing = _Plan(canned, self._delivery, None)
        self._next: list[_Plan] = []
        self._runner: web.AppRunner | None = None
        self._site: web.TCPSite | None = None
        self._changed = asyncio.Condition()
        self._stopping = False

    # What is answered

    def reply(
        self,
        answer: Answer | None = None,
        *,
        text: str | None = None,
        tool_calls: Sequence[ToolCall | Mapping[str, Any]] = (),
        reasoning: str = "",
        refusal: str = "",
        finish: str = "",
        choices: Sequence[Choice | str] = (),
        delivery: Delivery | None = None,
        times: int | None = None,
    ) -> None:
        """Sets the answer to the next `times` requests, or to all from now on where `times` is not given.

        `answer` is a text, a Reply, a fault (see faults.py) or a function from the request's document to one of those;
        the keywords are make_reply()'s. With neither, the canned answer stays and only the delivery changes. Answers
        for a number of requests are used up in the order of the calls, before the one for all.
        """
        if isinstance(answer, str):
            answer, text = None, answer
        spoken = text is not None or any((tool_calls, reasoning, refusal, finish, choices))
        if answer is not None and spoken:
            raise TypeError("a reply, a fault or a function says everything already")
        if spoken:
            answer = make_reply(
                text or "", tool_calls=tool_calls, reasoning=reasoning, refusal=refusal, finish=finish, choices=choices
            )
        plan = _Plan(canned if answer is None else answer, delivery or self._delivery, times)
        if times is None:
            self._standing = plan
        else:
            self._next.append(plan)

    def reset(self) -> None:
        """Forgets what came, and answers as at first."""
        self.requests.clear()
        self._next.clear()
        self._standing = _Plan(canned, self._delivery, None)

    # What came

    @property
    def url(self) -> str:
        """The base URL for a client, ending in /v1. It stays the same over refuse() and accept()."""
        if not self._port:
            raise RuntimeError("the upstream has not been started")
        return f"http://{self._host}:{self._port}/v1"

    @property
    def last(self) -> Received:
        """The newest request."""
        return self.requests[-1]

    @property
    def disconnects(self) -> int:
        """How many clients left before they had their whole answer."""
        return sum(received.disconnected for received in self.requests)

    async def wait_for(self, condition: Callable[[Self], object], limit: float = 5.0) -> None:
        """Waits until `condition(upstream)` holds, looking after every change; TimeoutError after `limit` seconds."""
        async with asyncio.timeout(limit), self._changed:
            await self._changed.wait_for(lambda: condition(self))

    # Starting and stopping

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listens; with port 0, on one that is free."""
        app = web.Application(client_max_size=_MAX_BODY)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._stopping = False
        self._runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0)
        await self._runner.setup()
        await self.accept()

    async def stop(self) -> None:
        """Stops listening and breaks what is under way off."""
        self._stopping = True
        if self._runner is not None:
            await self._runner.cleanup()
        self._runner = self._site = None

    async def refuse(self) -> None:
        """Closes the port, so that new connections are refused; those there are stay."""
        if self._site is not None:
            await self._site.stop()
            self._site = None

    async def accept(self) -> None:
        """Opens the port (again)."""
        if self._runner is None or self._site is not None:
            return
        self._site = web.TCPSite(self._runner, self._host, self._port, reuse_address=True)
        await self._site.start()
        self._port = self._runner.addresses[0][1]

    # Serving

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        received = Received(request.method, request.path_qs, CIMultiDict(request.headers))
        self.requests.append(received)
        try:
            received.body = await request.read()
            received.document = _parsed(received.body)
            await self._notify()
            return await self._answer(request, received, len(self.requests))
        except (asyncio.CancelledError, ConnectionError):
            received.disconnected = not self._stopping
            await asyncio.shield(self._notify())
            raise

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    def _plan(self) -> _Plan:
        while self._next and self._next[0].times == 0:
            self._next.pop(0)
        if not self._next:
            return self._standing
        plan = self._next[0]
        if plan.times is not None:
            plan.times -= 1
        return plan

    async def _answer(self, request: web.Request, received: Received, serial: int) -> web.StreamResponse:
        plan = self._plan()
        sender = Sender(request, received, plan.delivery)
        shape = SHAPES.get(_route(request))
        answer = plan.answer
        if answer is canned and shape is None:
            return await sender.whole(_plain(request, received.document, serial))
        if callable(answer):
            answer = answer(received.document)
            if inspect.isawaitable(answer):
                answer = await answer
        if isinstance(answer, Hang | Cut | Raw):
            return await sender.fault(answer)
        if shape is None or request.method != "POST":
            return await sender.whole(_plain(request, received.document, serial))
        if not isinstance(received.document, dict):
            return await sender.whole(faults.status(400, "We could not parse the JSON body of your request."))
        reply = make_reply(answer) if isinstance(answer, str) else answer
        return await sender.reply(shape, Ask(received.document, reply, serial, plan.delivery.split))


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _route(request: web.Request) -> str:
    return request.path.removeprefix("/v1/").strip("/")


def _plain(request: web.Request, document: Any, serial: int) -> Raw:
    """The routes that have no reply, and the answer to those that do not exist."""
    route = _route(request)
    if request.method == "GET" and route == "models":
        return Raw(to_json(plain.models()).encode())
    if request.method == "GET" and route.startswith("models/"):
        return Raw(to_json(plain.model(route.removeprefix("models/"))).encode())
    made: dict[str, Callable[[], Any]] = {
        "embeddings": lambda: plain.embeddings(document),
        "moderations": lambda: plain.moderations(document, serial),
        "messages/count_tokens": lambda: plain.count_tokens(document),
    }
    if request.method == "POST" and route in made:
        if not isinstance(document, dict):
            return faults.status(400, "We could not parse the JSON body of your request.")
        return Raw(to_json(made[route]()).encode())
    return faults.status(404, f"Unknown request URL: {request.method} {request.path}.")
