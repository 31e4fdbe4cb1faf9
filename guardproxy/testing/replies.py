"""What the upstream says, apart from any API's shape: a Reply is the same for chat, responses and messages.

Nothing here is random and nothing keeps a clock: the same request gets the same reply, so a test can assert every byte.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Json = Any

# Alternatives that start with different characters, none nested: linear on any text.
_TOKEN = re.compile(r" ?\w{1,5}|\s|[^\w\s]")

GREETING = "Hello! I am a pretend model that answers from a few fixed rules. What would you like to try?"


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call of a tool. `arguments` is the text the model wrote: JSON if it behaves, anything if it does not."""

    name: str
    arguments: str
    id: str = ""  # "" for one that counts up


@dataclass(frozen=True, slots=True)
class Choice:
    """One answer. `finish` "" means what follows from the rest: stop, or tool_calls."""

    text: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    reasoning: str = ""
    refusal: str = ""
    finish: str = ""

    @property
    def tokens(self) -> int:
        """How many tokens usage says this took."""
        calls = "".join(call.name + call.arguments for call in self.tool_calls)
        return len(tokens(self.text + self.reasoning + self.refusal + calls))


@dataclass(frozen=True, slots=True)
class Reply:
    """What is answered. A request for more choices than there are gets them again from the first on."""

    choices: tuple[Choice, ...]

    def take(self, count: int) -> tuple[Choice, ...]:
        """`count` choices; with one asked for, all that there are (a test may send more than it was asked for)."""
        wanted = max(count, len(self.choices))
        return tuple(self.choices[index % len(self.choices)] for index in range(wanted))


Responder = Callable[[Json], Any]
"""Makes the answer from the request's parsed document: anything that Upstream.reply() takes."""


def make_reply(
    text: str = "",
    *,
    tool_calls: Sequence[ToolCall | Mapping[str, Any]] = (),
    reasoning: str = "",
    refusal: str = "",
    finish: str = "",
    choices: Sequence[Choice | str] = (),
) -> Reply:
    """A Reply from what is handy to write in a test. A tool call may be {"name": …, "arguments": text or object}."""
    if choices:
        return Reply(tuple(Choice(text=choice) if isinstance(choice, str) else choice for choice in choices))
    return Reply((Choice(text, tuple(_tool_call(call) for call in tool_calls), reasoning, refusal, finish),))


def _tool_call(call: ToolCall | Mapping[str, Any]) -> ToolCall:
    if isinstance(call, ToolCall):
        return call
    arguments = call.get("arguments", "{}")
    written = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    return ToolCall(str(call["name"]), written, str(call.get("id", "")))


def tokens(text: str) -> list[str]:
    """Cuts a text into token-like pieces that join to it: a space and up to five word characters, or one other
    character.
    """
    return _TOKEN.findall(text)


def filler(size: int) -> str:
    """A harmless text of exactly `size` ASCII characters."""
    sentence = "The quick brown fox jumps over the lazy dog and rests. "
    return (sentence * (size // len(sentence) + 1))[:size]


def canned(document: Json) -> Reply:
    """The default answer: greets, calls a tool that is required, answers in JSON where asked to, else repeats what was
    said.
    """
    said = last_words(document)
    called = _required_tool(document)
    if called:
        return make_reply(tool_calls=[{"name": called, "arguments": {"input": said}}])
    if _wants_json(document):
        return make_reply(json.dumps({"you_said": said}, ensure_ascii=False))
    if not said or said.strip().lower().rstrip("!.?") in ("hi", "hello", "hey", "hello there"):
        return make_reply(GREETING)
    return make_reply(f"You said: {said}")


def last_words(document: Json) -> str:
    """The text of the last user message, of the prompt, or of the input; "" where there is none."""
    if not isinstance(document, dict):
        return ""
    for name in ("messages", "input"):
        items = document.get(name)
        if isinstance(items, str):
            return items
        if isinstance(items, list):
            return _last_user(items)
    prompt = document.get("prompt")
    return text_of(prompt[-1] if isinstance(prompt, list) and prompt else prompt)


def _last_user(items: list[Json]) -> str:
    for item in reversed(items):
        if isinstance(item, str):
            return item
        if isinstance(item, dict) and item.get("role") == "user":
            return text_of(item.get("content"))
    return ""


def text_of(content: Json) -> str:
    """The text of a string, or of a list of parts; parts that are not text say nothing."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    parts = (part.get("text") if isinstance(part, dict) else part for part in content)
    return "\n".join(part for part in parts if isinstance(part, str))


def prompt_tokens(document: Json) -> int:
    """How many tokens usage says the request took: a quarter of the characters of its messages, prompt or input as
    JSON.
    """
    if not isinstance(document, dict):
        return 0
    said = [document.get(name) for name in ("system", "instructions", "messages", "prompt", "input")]
    return sum(-(-len(json.dumps(part, ensure_ascii=False)) // 4) for part in said if part)


def _required_tool(document: Json) -> str:
    if not isinstance(document, dict):
        return ""
    choice = document.get("tool_choice")
    if isinstance(choice, dict):
        name = choice.get("name") or (choice.get("function") or {}).get("name")
        if name:
            return str(name)
    forced = choice == "required" or (isinstance(choice, dict) and choice.get("type") == "any")
    tools = document.get("tools")
    if not forced or not isinstance(tools, list) or not tools or not isinstance(tools[0], dict):
        return ""
    return str(tools[0].get("name") or (tools[0].get("function") or {}).get("name") or "")


def _wants_json(document: Json) -> bool:
    if not isinstance(document, dict):
        return False
    wanted = document.get("response_format") or (document.get("text") or {}).get("format")
    return isinstance(wanted, dict) and wanted.get("type") in ("json_object", "json_schema")
