"""Loads a policy from YAML: all or nothing, with every mistake named by path:line:column.

A policy that has loaded is complete. Its rules refer only to checks, labels and judges that exist; each check that a
rule names has a configuration; each kind of part is allowed or denied. What is not written is denied.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from hashlib import sha256
from os import PathLike
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import guardproxy
from guardproxy.errors import GuardproxyError, PolicyError
from guardproxy.policy.model import (
    CHECK_DEADLINE,
    DEADLINE,
    JUDGE_DEADLINE,
    JUDGE_THRESHOLD,
    PART_KINDS,
    CheckConfig,
    CheckInfo,
    FindingMatch,
    Judge,
    Policy,
    RefusalShape,
    RefusalStyle,
    Rule,
)
from guardproxy.policy.points import Points
from guardproxy.policy.rules import Known, identifier, read_rule
from guardproxy.source import read_yaml
from guardproxy.strict import Placed, Problems, Reader, Unfit, duration, number, one_of, several, suggest, text
from guardproxy.types import Action

_DENIED = {"allow": Action.ALLOW, "deny": Action.BLOCK}


def load(
    path: str | PathLike[str],
    specs: Mapping[str, CheckInfo],
    *,
    backends: Collection[str] | None = None,
    points: Points | None = None,
) -> Policy:
    """The policy in the file at `path`. `sha256` is of its bytes.

    `specs` are the checks that exist; `backends`, where given, are the rungs that a ladder may name; `points`, where
    given, are the thresholds that stand behind rates of false positives, and are looked at only if a rule names one.
    Raises PolicyError with all mistakes, one a line.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise PolicyError(f"cannot be read: {error.strerror or type(error).__name__}", place=str(path)) from None
    return parse(data, specs, name=str(path), backends=backends, points=points)


def parse(
    data: bytes | str,
    specs: Mapping[str, CheckInfo],
    *,
    name: str = "policy",
    backends: Collection[str] | None = None,
    points: Points | None = None,
) -> Policy:
    """As load(), from the policy's text; `name` is what the messages call it."""
    problems = Problems()
    root = read_yaml(data, name, problems)
    digest = sha256(data.encode() if isinstance(data, str) else data).hexdigest()
    policy = _Loader(specs, backends, points, problems).policy(root, digest) if root else None
    if problems or policy is None:
        problems.sort()
        (place, message), *_ = problems.found
        lines = [message, *list(problems)[1:]]
        raise PolicyError("\n".join(lines), place=place)
    return policy


def locate(policy: str) -> Path:
    """The file that a setting means: a file's path, or the name of a policy that comes along; "" is the default one."""
    if not policy or (policy.isidentifier() and not Path(policy).exists()):
        return shipped(policy or "default")
    return Path(policy)


def shipped(name: str = "default") -> Path:
    """The file of a policy that comes with the package. Raises PolicyError where there is none of that name."""
    package = Path(guardproxy.__file__).parent
    # An installed package carries the policies inside; a checkout has them beside it.
    folder = next((at for at in (package / "policies", package.parent / "policies") if at.is_dir()), package)
    names = sorted(file.stem for file in folder.glob("*.yaml") if not file.stem.endswith("_test"))
    if name not in names:
        raise PolicyError(f"no policy `{name}` comes with the package; there are {', '.join(names) or 'none'}")
    return folder / f"{name}.yaml"


class _Loader:
    """Reads one policy; complaints go to `problems`."""

    def __init__(
        self,
        specs: Mapping[str, CheckInfo],
        backends: Collection[str] | None,
        points: Points | None,
        problems: Problems,
    ) -> None:
        self._specs, self._backends, self._points, self._problems = specs, backends, points, problems

    def policy(self, root: Placed, digest: str) -> Policy | None:
        reader = Reader(root, self._problems, "a policy")
        name = reader.take("name", identifier, "", required=True)
        version = reader.take("version", identifier, "", required=True)
        description = reader.take("description", text, "")
        deadline = reader.take("deadline", duration, DEADLINE)
        unguarded = reader.take("unguarded", one_of(tuple(_DENIED)), "deny")
        parts = self._parts(reader.node("parts"))
        refusal = self._refusal(reader.node("refusal"))
        judges = self._judges(reader.node("judges"))
        checks, labels = self._checks(reader.node("checks"), deadline)
        rules = self._rules(reader, Known(tuple(self._specs), labels, judges, self._points))
        reader.finish()
        complete = _complete(checks, rules, deadline)
        for bare in sorted(complete.keys() - checks.keys()):
            # Some checks mean nothing without options, and a rule alone then does not suffice.
            if bare in self._specs:
                self._built_labels(self._specs[bare], {}, Placed({}, reader.place("rules")), bare)
        if self._problems:
            return None
        return Policy(
            name=name,
            version=version,
            sha256=digest,
            rules=rules,
            checks=complete,
            judges=judges,
            unguarded=_DENIED[unguarded],
            parts=parts,
            refusal=refusal,
            deadline=deadline,
            description=description,
        )

    def _parts(self, node: Placed | None) -> dict[str, Action]:
        parts = dict.fromkeys(PART_KINDS, Action.BLOCK)
        if node is not None:
            reader = Reader(node, self._problems, "`parts`")
            for kind in PART_KINDS:
                parts[kind] = _DENIED[reader.take(kind, one_of(tuple(_DENIED)), "deny")]
            reader.finish()
        return parts

    def _refusal(self, node: Placed | None) -> RefusalStyle:
        style = RefusalStyle()
        if node is None:
            return style
        reader = Reader(node, self._problems, "`refusal`")
        shape = one_of([str(shape) for shape in RefusalShape])
        message = reader.take("message", text, style.message)
        prompt = RefusalShape(reader.take("prompt", shape, str(style.prompt)))
        completion = RefusalShape(reader.take("completion", shape, str(style.completion)))
        reader.finish()
        return RefusalStyle(message, prompt, completion)

    def _judges(self, node: Placed | None) -> dict[str, Judge]:
        judges: dict[str, Judge] = {}
        for name, entry in self._entries(node, "`judges`"):
            reader = Reader(entry, self._problems, "a judge")
            judges[name] = Judge(
                name=name,
                url=reader.take("url", _url, "", required=True),
                model=reader.take("model", text, "", required=True),
                key_env=reader.take("key_env", _variable, ""),
                deadline=reader.take("deadline", duration, JUDGE_DEADLINE),
                threshold=reader.take("threshold", number(0.0, 1.0), JUDGE_THRESHOLD),
            )
            reader.finish()
        return judges

    def _checks(
        self, node: Placed | None, limit: float
    ) -> tuple[dict[str, CheckConfig], dict[str, frozenset[str] | None]]:
        """The configurations that are written, and the labels of every check that exists."""
        checks: dict[str, CheckConfig] = {}
        labels = {name: None if spec.open_labels else spec.labels for name, spec in self._specs.items()}
        for name, entry in self._entries(node, "`checks`"):
            spec = self._specs.get(name)
            if spec is None:
                hint = suggest(name, self._specs) or f"; there are {', '.join(self._specs)}"
                self._problems.add(entry.key_place, f"there is no check `{name}`{hint}")
                continue
            # `pii:` with nothing behind it asks for the check as it is.
            reader = Reader(Placed({}, entry.place) if entry.value is None else entry, self._problems, f"check {name}")
            ladder = reader.take("ladder", several(self._rung), None)
            deadline = reader.take("deadline", duration, min(CHECK_DEADLINE, limit))
            if deadline > limit:
                self._problems.add(
                    reader.place("deadline"),
                    f"longer than the deadline of all checks together ({limit:g}s, `deadline` of the policy)",
                )
            rest = reader.rest()
            options = {key: value.plain() for key, value in rest.items()}
            checks[name] = CheckConfig(name, ladder, deadline, options)
            labels[name] = self._built_labels(spec, options, entry, name)
        return checks, labels

    def _built_labels(
        self, spec: CheckInfo, options: Mapping[str, Any], entry: Placed, name: str
    ) -> frozenset[str] | None:
        """Builds the check to see that its options hold; the labels that it then has, None where they are open."""
        try:
            check = spec.build(options)
        except GuardproxyError as error:
            message = error.message if isinstance(error, PolicyError) else str(error)
            self._problems.add(_option_place(message, entry, f"checks.{name}."), message)
            return None
        own: frozenset[str] = getattr(check, "labels", frozenset())
        return own or (None if spec.open_labels else spec.labels)

    def _rung(self, node: Placed) -> str:
        return one_of(tuple(self._backends))(node) if self._backends is not None else identifier(node)

    def _rules(self, reader: Reader, known: Known) -> tuple[Rule, ...]:
        node = reader.node("rules")
        if node is None or not isinstance(node.value, list) or not node.value:
            if isinstance(reader.whole.value, dict):
                self._problems.add(
                    node.place if node else reader.whole.place, "a policy needs `rules`, a list with at least one rule"
                )
            return ()
        rules: list[Rule] = []
        places: dict[str, str] = {}
        for item in node.value:
            rule = read_rule(item, known, self._problems)
            self._note_id(item, places)
            if rule is not None:
                rules.append(rule)
        return tuple(rules)

    def _note_id(self, item: Placed, places: dict[str, str]) -> None:
        written = item.value.get("id") if isinstance(item.value, dict) else None
        if written is None or not written.raw:
            return
        if written.raw in places:
            self._problems.add(
                written.place, f"the rule id `{written.raw}` is used twice (first at {places[written.raw]})"
            )
        places.setdefault(written.raw, written.place)

    def _entries(self, node: Placed | None, what: str) -> list[tuple[str, Placed]]:
        if node is None or node.value is None:
            return []
        if not isinstance(node.value, dict):
            self._problems.add(node.place, f"{what}: expected names with their settings, not {node.kind()}")
            return []
        return list(node.value.items())


def _complete(checks: Mapping[str, CheckConfig], rules: tuple[Rule, ...], limit: float) -> dict[str, CheckConfig]:
    """The configurations, with the default one for each check that only a rule names."""
    complete = dict(checks)
    for rule in rules:
        match = rule.match
        names = [match.check] if isinstance(match, FindingMatch) else sorted(match.checks)
        for name in names:
            complete.setdefault(name, CheckConfig(name, deadline=min(CHECK_DEADLINE, limit)))
    return complete


def _option_place(message: str, entry: Placed, prefix: str) -> str:
    """Where the option stands that a check's message names by its path ("checks.url.allow: ..."), as near as can be."""
    node, place = entry, entry.key_place or entry.place
    path = message.partition(":")[0]
    for step in path.removeprefix(prefix).split(".") if path.startswith(prefix) else ():
        if not isinstance(node.value, dict) or step not in node.value:
            break
        node = node.value[step]
        place = node.key_place or node.place
    return place


def _url(node: Placed) -> str:
    url = text(node).rstrip("/")
    try:
        parts = urlsplit(url)
        fit = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        fit = False
    if not fit:
        raise Unfit("expected the base URL of an OpenAI-compatible endpoint, such as https://judge.example/v1")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise Unfit("a URL here holds no user, key or query; name the variable with the key in `key_env`")
    return url


def _variable(node: Placed) -> str:
    name = text(node)
    if not name.isascii() or not name.isidentifier():
        raise Unfit("expected the name of an environment variable, such as JUDGE_API_KEY; never the key itself")
    return name
