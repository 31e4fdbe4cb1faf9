"""Message contents, content parts and output items: one walk that goes by members' names for all APIs.

The APIs name the same things alike (text, arguments, output, image_url), and a server may accept a part whose `type` is
missing or unheard of. So the members decide what a thing holds; its type only says who speaks.
"""

from __future__ import annotations

import base64
import binascii
import codecs
import string
from urllib.parse import unquote_to_bytes

from guardproxy.types import Mark, Path, Piece, Scope, Segment
from guardproxy.wire.base import Json
from guardproxy.wire.common import is_name
from guardproxy.wire.finder import CALL, DEFINITION, LABELS, RESULT, Finder, Voice

_IMAGE = ("image", "image_url", "input_image", "output_image", "image_file", "image_pil", "image_embeds", "screenshot")
_AUDIO = ("audio", "input_audio", "output_audio", "audio_url", "audio_embeds")
_VIDEO = ("video", "video_url", "input_video")
_FILE = ("file", "input_file", "document", "file_url", "file_data", "container_upload")
_MEMBERS = {
    **dict.fromkeys(_IMAGE, "image"),
    **dict.fromkeys(_AUDIO, "audio"),
    **dict.fromkeys(_VIDEO, "video"),
    **dict.fromkeys(_FILE, "file"),
}
_TYPES = {
    **_MEMBERS,
    "computer_screenshot": "image",
    "image_generation_call": "image",
    "prompt_embeds": "tokens",
    "redacted_thinking": "encrypted",
}
_TEXT_TYPES = frozenset(
    {
        "text",
        "input_text",
        "output_text",
        "refusal",
        "thinking",
        "reasoning",
        "reasoning_text",
        "summary_text",
        "message",
    }
)
_SPOKEN = frozenset({"text", "refusal", "thinking"})
_OUTPUTS = frozenset({"error", "output", "outputs", "result", "results"})
_STRUCTURAL = LABELS | {
    "approval_request_id",
    "cache_control",
    "caller",
    "container_id",
    "detail",
    "encrypted_index",
    "file_id",
    "fingerprint",
    "item_id",
    "media_type",
    "mime_type",
    "output_format",
    "phase",
    "quality",
    "server_label",
    "signature",
    "size",
    "tool_use_id",
}
_OPAQUE = frozenset({"signature", "encrypted_index"})
_CREDENTIALS = frozenset({"authorization", "headers"})
_BASE64 = (string.ascii_letters + string.digits + "+/=_-\r\n").encode()
_SHORT = 64  # a string without spaces that is shorter is a word, whatever its characters
_PREFIX = 512  # characters of encoded data that show whether it is text; a multiple of four


def content(found: Finder, value: Json, path: Path, channel: str, voice: Voice, *, embed: bool = False) -> None:
    """A content: a string, a list of parts, or one part. With `embed`, strings that hold JSON are flattened."""
    if isinstance(value, str):
        _text(found, value, path, channel, voice, embed)
    elif isinstance(value, list):
        spoken: list[tuple[Path, str]] = []
        for index, part in enumerate(value):
            here, name = (*path, index), f"{channel}.{index}"
            if isinstance(part, str):
                _text(found, part, here, name, voice, embed)
                spoken.append((here, part))
            elif isinstance(part, dict):
                spoken += thing(found, part, here, name, voice, embed=embed)
            else:
                content(found, part, here, name, voice, embed=embed)
        found.joined([each for each in spoken if each[1]], path, channel, voice)
    elif isinstance(value, dict):
        thing(found, value, path, channel, voice, embed=embed)


def thing(
    found: Finder,
    part: dict[str, Json],
    path: Path,
    channel: str,
    voice: Voice,
    *,
    embed: bool = False,
    item: bool = False,
) -> list[tuple[Path, str]]:
    """A content part or an item, by its members. Returns the places of what it says, to be joined with its neighbours.

    A part of a kind that nobody knows and whose payload cannot be read is reported as "other"; an item is not.
    """
    kind = part.get("type")
    named = kind.strip().lower() if isinstance(kind, str) else ""
    voice, embed = _voice(named, voice, embed)
    medium = _medium(named, part)
    if medium:
        found.part(medium, path)
    strange = not (item or medium) and named not in _TEXT_TYPES and voice.scope in (Scope.PROMPT, Scope.COMPLETION)
    before = len(found.segments) + len(found.parts)
    outer, spoken = found.echo, []
    repeats = _repeats(part, voice)
    if repeats:
        found.echo = (*path, "logprobs")
    for key, value in part.items():
        if key in _SPOKEN and isinstance(value, str):
            _text(found, value, (*path, key), f"{channel}.{key}", voice, embed)
            spoken.append(((*path, key), value))
        elif key != "logprobs" or not repeats:
            _member(found, key, value, path, channel, voice, medium or ("other" if strange else ""))
    found.echo = outer
    if strange and len(found.segments) + len(found.parts) == before and any(part[key] for key in part if key != "type"):
        found.part("other", path)
    return spoken


def _repeats(part: dict[str, Json], voice: Voice) -> bool:
    """Whether `logprobs` says what the part's text says, token by token: a list, in answers alone."""
    listed = part.get("logprobs")
    return (
        voice.scope is Scope.COMPLETION
        and isinstance(listed, list)
        and bool(listed)
        and all(isinstance(each, dict) for each in listed)
        and any(isinstance(part.get(name), str) and part[name] for name in _SPOKEN)
    )


def _text(found: Finder, value: str, path: Path, channel: str, voice: Voice, embed: bool) -> None:
    (found.embedded if embed else found.text)(value, path, channel, voice)


def _voice(named: str, voice: Voice, embed: bool) -> tuple[Voice, bool]:
    if named.endswith(("tool_use", "_call", "_request")) or named == "program":
        return CALL, embed
    if named.endswith(("_result", "_output")):
        return RESULT, True
    return voice, embed


def _medium(named: str, part: dict[str, Json]) -> str:
    """The kind of a part that holds more than text; "" for the others."""
    source = part.get("source")
    if named == "document" and isinstance(source, dict) and source.get("type") in ("text", "content"):
        return ""
    if named in _TYPES:
        return _TYPES[named]
    return next((_MEMBERS[key] for key in part if key in _MEMBERS and part[key]), "")


def _member(found: Finder, key: str, value: Json, path: Path, channel: str, voice: Voice, medium: str) -> None:
    here, name = (*path, key), f"{channel}.{key}"
    if key in ("content", "summary"):
        content(found, value, here, name, voice, embed=voice is RESULT)
    elif key in ("arguments", "input") and isinstance(value, str):
        found.embedded(value, here, name, CALL)
    elif key in ("arguments", "input"):
        found.flat(value, here, name, CALL)
    elif key in _OUTPUTS and not (medium and isinstance(value, str)):
        content(found, value, here, name, RESULT, embed=True)
    elif key == "tools":
        definitions(found, value, here, name)
    elif key == "encrypted_content" or (medium == "encrypted" and key == "data"):
        if value:
            found.part("encrypted", here)
    elif key == "source" and isinstance(value, dict) and "content" in value:
        thing(found, value, here, name, voice)
    elif key in _OPAQUE and isinstance(value, str) and _is_encoded(value):
        return  # a seal over the text beside it, for the API alone
    elif medium not in ("", "other") and key not in _STRUCTURAL:
        encoded(found, {key: value}, path, channel, voice)
    elif medium and isinstance(value, str) and key not in _STRUCTURAL and _payload(value) is not None:
        encoded(found, {key: value}, path, channel, voice)
        found.part("other", here)
    else:
        found.member(key, value, path, channel, voice, _STRUCTURAL)


def definitions(found: Finder, value: Json, path: Path, channel: str) -> None:
    """Tool definitions, each flattened. The credentials for an MCP server reach neither a model nor a person."""
    if not isinstance(value, list):
        found.unknown(value, path, channel, DEFINITION)
        return
    for index, tool in enumerate(value):
        shown = tool
        if isinstance(tool, dict) and tool.get("type") == "mcp":
            shown = {key: member for key, member in tool.items() if key not in _CREDENTIALS}
        found.flat(shown, (*path, index), f"{channel}.{index}", DEFINITION)


def encoded(found: Finder, value: Json, path: Path, channel: str, voice: Voice) -> None:
    """The texts inside a part that holds more than text: names, transcripts, and data that turn out to be text."""
    if isinstance(value, dict):
        for key, member in value.items():
            if not (key in _STRUCTURAL and isinstance(member, str) and is_name(member)):
                encoded(found, member, (*path, key), f"{channel}.{key}", voice)
            if not is_name(key):
                found.text(key, (*path, key, Mark.KEY), f"{channel}.name", voice)
    elif isinstance(value, list):
        for index, member in enumerate(value):
            encoded(found, member, (*path, index), f"{channel}.{index}", voice)
    elif isinstance(value, str):
        payload = _payload(value)
        if payload is None:
            found.text(value, path, channel, voice)
        elif text := _decoded(payload, value[:5].lower() == "data:" and ";base64" not in value[:256].lower()):
            role, scope = voice
            found.segments.append(
                Segment(channel, path, role, scope, text, (Piece(0, len(text), path, literal=True),), found.echo)
            )


def _payload(value: str) -> str | None:
    """The encoded data of a data: URL or of a base64 string; None for what is plain text."""
    if value[:5].lower() == "data:":
        return value.partition(",")[2]
    return value if len(value) >= _SHORT and _is_encoded(value) else None


def _is_encoded(value: str) -> bool:
    return value.isascii() and not value.encode().translate(None, _BASE64)


def _decoded(payload: str, percent: bool) -> str:
    """The text that encoded data stand for; "" if they are not text."""
    try:
        head = _bytes(payload[:_PREFIX], percent)
        codecs.getincrementaldecoder("utf-8")().decode(head)  # the cut may fall inside a character
        return "" if b"\0" in head else _bytes(payload, percent).decode("utf-8", "replace")
    except ValueError:  # binascii.Error and UnicodeError are ValueErrors
        return ""


def _bytes(payload: str, percent: bool) -> bytes:
    if percent:
        return unquote_to_bytes(payload)
    packed = payload.replace("-", "+").replace("_", "/").encode("ascii").translate(None, b"\r\n \t=")
    if len(packed) % 4 == 1:
        raise binascii.Error
    return base64.b64decode(packed + b"=" * (-len(packed) % 4))
