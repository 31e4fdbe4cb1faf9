"""Settings: one table from which the flags, the variables, the file and their help all follow.

What is nearer to the command wins: flags, then GUARDPROXY_* variables, then the file, then the defaults. Unknown keys
and variables are errors, because a misspelt limit is no limit. Every complaint names the source and the setting; values
are not repeated, because an address may hold a password.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from guardproxy.errors import ConfigError
from guardproxy.source import read_yaml
from guardproxy.strict import Convert, Placed, Problems, Unfit, clip, duration, flag, one_of, size, suggest, text, whole

PREFIX = "GUARDPROXY_"
CONFIG = "config"  # where the file's own path comes from: --config or GUARDPROXY_CONFIG
MIB = 2**20
_SERVICE_LINK = re.compile(rf"{PREFIX}(?:\w+_)?(?:SERVICE_(?:HOST|PORT\w*)|PORT_[0-9]+_(?:TCP|UDP)\w*)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Option:
    """What is known of a setting beside its default. `show` is the default as help prints it, where that differs."""

    group: str
    help: str
    convert: Convert[Any]
    metavar: str
    show: str = ""


def _option(group: str, default: Any, convert: Convert[Any], metavar: str, words: str, show: str = "") -> Any:
    return field(default=default, metadata={"option": Option(group, words, convert, metavar, show)})


def _upstream(node: Placed) -> str:
    """The base URL without a slash at its end."""
    url = text(node).strip()
    example = "such as https://api.openai.com/v1"
    try:
        parts = urlsplit(url)
        named = bool(parts.hostname) and parts.port != 0
    except ValueError:
        raise Unfit(f"not a URL; expected the base URL of an OpenAI-compatible endpoint, {example}") from None
    if "@" in parts.netloc:
        raise Unfit("a URL here holds no user or password; clients send their own key, which is passed on")
    if parts.query or parts.fragment or "?" in url or "#" in url:
        raise Unfit(f"a base URL has nothing after its path; expected one {example}")
    if parts.scheme not in ("http", "https") or not named:
        hint = f"; did you mean https://{url}?" if re.fullmatch(r"[a-z0-9.:-]+\.[a-z]{2,}(?:/[\w./-]*)?", url) else ""
        raise Unfit(f"expected a URL that starts with http:// or https://, {example}{hint}")
    path = parts.path.rstrip("/")
    if not path:
        whole_url = f"{parts.scheme}://{parts.netloc}/v1"
        raise Unfit(f"the base URL has no path; an OpenAI-compatible endpoint's mostly ends in /v1: {whole_url}")
    return f"{parts.scheme}://{parts.netloc}{path}"


def _name(node: Placed) -> str:
    word = text(node).strip()
    if not word:
        raise Unfit("nothing is written here")
    return word


def _variable(node: Placed) -> str:
    word = text(node)
    if word and not (word.isascii() and word.isidentifier()):
        raise Unfit("expected the name of an environment variable, never the key itself")
    return word


_PORT = whole(0, 65535)


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that is set outside the policy. Times are seconds, sizes bytes."""

    upstream: str = _option(
        "endpoint", "", _upstream, "URL", "base URL of the OpenAI-compatible endpoint to guard", "none; required"
    )
    host: str = _option("endpoint", "127.0.0.1", _name, "ADDRESS", "address to listen on; 0.0.0.0 for all")
    port: int = _option("endpoint", 8080, _PORT, "PORT", "port to listen on; 0 for any free one")
    admin_host: str = _option(
        "endpoint", "127.0.0.1", _name, "ADDRESS", "address for /healthz and /readyz, apart from the traffic"
    )
    admin_port: int = _option("endpoint", 8081, _PORT, "PORT", "port for /healthz and /readyz; 0 for any free one")
    workers: int = _option("endpoint", 1, whole(1, 256), "N", "processes that share the port; one a core is enough")
    uvloop: bool = _option("endpoint", True, flag, "", "use the uvloop event loop where it is installed")

    policy: str = _option(
        "policy", "", text, "FILE", "policy to apply: a file, or the name of one that comes along", "default"
    )
    backend: str = _option(
        "policy", "onnx", _name, "NAME", "what answers for checks with a model stage where the policy names no ladder"
    )
    adapters: str = _option(
        "policy",
        "",
        text,
        "DIR",
        "folder of the small models' adapters (see manifest.json there)",
        "those that come along",
    )
    hash_key_env: str = _option(
        "policy",
        "",
        _variable,
        "VARIABLE",
        "environment variable that holds the key of hashed replacements",
        "a random key for each process",
    )

    max_body: int = _option("limits", 32 * MIB, size, "SIZE", "largest request body, after decompression")
    max_response: int = _option("limits", 64 * MIB, size, "SIZE", "largest response that is not a stream")
    max_held: int = _option("limits", 4 * MIB, size, "SIZE", "most that one stream may hold back undecided")
    request_timeout: float = _option("limits", 60.0, duration, "TIME", "time a client has to send its request")
    upstream_connect_timeout: float = _option("limits", 10.0, duration, "TIME", "time to connect to the upstream")
    upstream_timeout: float = _option(
        "limits", 300.0, duration, "TIME", "longest silence of the upstream, before the answer and within it"
    )
    shutdown_timeout: float = _option(
        "limits", 30.0, duration, "TIME", "time that running exchanges have to end when the proxy stops"
    )

    decision_log: str = _option(
        "records",
        "-",
        text,
        "FILE",
        "where to write decisions, a line of JSON each and never content; - for standard error, '' for nowhere",
    )
    log_allowed: bool = _option(
        "records", False, flag, "", "write down also the decisions that let everything pass unchanged"
    )
    log_level: str = _option(
        "records", "info", one_of(("debug", "info", "warning", "error")), "LEVEL", "debug, info, warning or error"
    )

    @classmethod
    def load(cls, flags: Mapping[str, Any], environ: Mapping[str, str]) -> Settings:
        """The settings from `flags` (by setting; what was not given is not in it), `environ` and the file they name.

        Raises ConfigError with all mistakes, one a line.
        """
        problems = Problems()
        known = {each.name: each.metadata["option"] for each in fields(cls)}
        given = {
            **_from_file(flags, environ, known, problems),
            **_from_environ(environ, known, problems),
            **_from_flags(flags, known, problems),
        }
        values: dict[str, Any] = {}
        for name, (node, prefix) in given.items():
            try:
                values[name] = known[name].convert(node)
            except Unfit as error:
                problems.add(node.place, f"{prefix}{error}")
        if problems:
            raise ConfigError("\n".join(problems))
        return cls(**values)


def options() -> list[tuple[str, Option, Any]]:
    """The table: each setting's name, option and default, in order."""
    return [(each.name, each.metadata["option"], each.default) for each in fields(Settings)]


_Given = dict[str, tuple[Placed, str]]  # by setting: what was written, and what a complaint starts with


def flag_name(name: str) -> str:
    """The flag of a setting."""
    return "--" + name.replace("_", "-")


def shown(name: str, option: Option, default: Any) -> str:
    """A default as a person would write it."""
    if option.show:
        return option.show
    if isinstance(default, bool):
        return "yes" if default else "no"
    if isinstance(default, float):
        return f"{default:g}s"
    if option.convert is size and default % MIB == 0:
        return f"{default // MIB}MiB"
    return str(default)


def _from_flags(flags: Mapping[str, Any], known: Mapping[str, Option], problems: Problems) -> _Given:
    given: _Given = {}
    for name, value in flags.items():
        if name in known:
            given[name] = (Placed(value, flag_name(name), str(value)), "")
        elif name != CONFIG:
            problems.add(flag_name(name), f"unknown setting{suggest(name, known)}")
    return given


def _from_environ(environ: Mapping[str, str], known: Mapping[str, Option], problems: Problems) -> _Given:
    given: _Given = {}
    for variable, value in sorted(environ.items()):
        if not variable.startswith(PREFIX) or _foreign(variable, value):
            continue
        name = variable.removeprefix(PREFIX).lower()
        if name in known and variable == variable.upper():
            given[name] = (Placed(value, variable, value), "")
        elif name != CONFIG:
            near = suggest(variable, [PREFIX + each.upper() for each in (*known, CONFIG)])
            problems.add(clip(variable), f"no setting has this variable{near}")
    return given


def _foreign(variable: str, value: str) -> bool:
    """Whether a variable with our prefix is none of our settings.

    Kubernetes makes such variables for a service that is called guardproxy (GUARDPROXY_PORT=tcp://...), and names that
    end in _KEY are left to the keys that policies and `hash_key_env` name.
    """
    link = variable.endswith("_PORT") and value.startswith(("tcp://", "udp://"))
    return link or variable.endswith("_KEY") or _SERVICE_LINK.fullmatch(variable) is not None


def _from_file(
    flags: Mapping[str, Any], environ: Mapping[str, str], known: Mapping[str, Option], problems: Problems
) -> _Given:
    source = flag_name(CONFIG) if flags.get(CONFIG) else PREFIX + CONFIG.upper()
    name = flags.get(CONFIG) or environ.get(PREFIX + CONFIG.upper(), "")
    if not name:
        return {}
    try:
        data = Path(name).read_bytes()
    except OSError as error:
        problems.add(source, f"the file cannot be read: {error.strerror or type(error).__name__}")
        return {}
    root = _read_toml(data, name, problems) if str(name).endswith(".toml") else read_yaml(data, str(name), problems)
    if root is None or root.value is None:
        return {}
    if not isinstance(root.value, dict):
        problems.add(root.place, f"expected settings, such as `port: 8080`, not {root.kind()}")
        return {}
    given: _Given = {}
    for key, node in root.value.items():
        if key in known:
            given[key] = (node, f"`{key}`: ")
        else:
            problems.add(node.key_place or node.place, f"unknown setting `{clip(key)}`{suggest(key, known)}")
    return given


def _read_toml(data: bytes, name: str, problems: Problems) -> Placed | None:
    try:
        members = tomllib.loads(data.decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        place = re.search(r"line (\d+), column (\d+)", str(error))
        problems.add(f"{name}:{place[1]}:{place[2]}" if place else name, "not readable as TOML")
        return None
    # Tables are no settings; their kind is all that a complaint needs.
    entries = {
        key: Placed({} if isinstance(value, dict) else value, name, str(value)) for key, value in members.items()
    }
    return Placed(entries, name)
