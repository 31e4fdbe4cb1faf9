"""Labelled rows, wherever they come from, in one form.

A label that nobody gave is unknown, not false: training skips it and metrics leave it out. Two formats are read: the
project's own rows (adapters/data/*.jsonl) and those of a folder of public sources; both are JSON lines with the text,
what it is, its labels and where it comes from.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from guardproxy.errors import ConfigError

HAZARDS = (
    "vcr", "ncr", "src", "cse", "ssh", "iwp", "ipv", "dfm", "hte", "prv",
    "spc_fin", "spc_hlt", "spc_lgl", "spc_ele", "sxc_prn",
)  # fmt: skip
VIOLATIONS = (
    "investment_advice", "return_guarantee", "legal_advice", "tax_advice", "medical_advice",
    "misleading_claim", "market_manipulation",
)  # fmt: skip
WAYS = ("direct", "indirect", "jailbreak", "prompt_leak", "exfiltration", "encoded")
ENTITIES = (
    "PERSON", "ADDRESS", "LOCATION", "ORGANIZATION", "DATE_OF_BIRTH", "AGE", "USERNAME", "PHONE_NUMBER",
    "EMAIL_ADDRESS", "ID_NUMBER", "BANK_ACCOUNT", "CREDIT_CARD", "IP_ADDRESS", "PASSWORD",
)  # fmt: skip
LABELS: Mapping[str, tuple[str, ...]] = {
    "toxicity": ("unsafe", "toxic", *HAZARDS),
    "injection": ("injection", *WAYS),
    "compliance": ("noncompliant", *VIOLATIONS),
    "pii": ENTITIES,
}
"""What the models of each check tell apart; the first of a classifier's is the union of all."""

IGNORED = "?"  # the type of a span that is an entity of a kind that is not ours: neither a find nor a miss

_ENTITY = {
    "ORG": "ORGANIZATION", "PHONE": "PHONE_NUMBER", "EMAIL": "EMAIL_ADDRESS", "IP": "IP_ADDRESS",
    "US_SSN": "ID_NUMBER", "MEDICAL_ID": "ID_NUMBER", "EMPLOYEE_ID": "ID_NUMBER", "LICENSE_ID": "ID_NUMBER",
    "POLICY_ID": "ID_NUMBER", "TAX_ID": "ID_NUMBER", "NATIONAL_ID": "ID_NUMBER", "DRIVER_LICENSE": "ID_NUMBER",
    "PASSPORT": "ID_NUMBER", "ACCOUNT_ID": "ID_NUMBER", "SOCIAL_MEDIA_HANDLE": "USERNAME",
    "PH_MOBILE_NUMBER": "PHONE_NUMBER", "TR_PHONE_NUMBER": "PHONE_NUMBER",
} | {entity: entity for entity in ENTITIES}  # fmt: skip
_NOT_PERSONAL = frozenset({"DATE", "QUANTITY", "SALARY", "HEALTH", "INVOICE_ID", "JOB_TITLE", "SEX", "FAMILY", "URL"})
_VIOLATION = {
    "financial_advice": "investment_advice",
    "financial_misconduct": "market_manipulation",
    "legal_advice": "legal_advice",
    "medical_advice": "medical_advice",
}
_ROLES = {"prompt": "prompt", "completion": "completion", "document": "tool_result", "tool_result": "tool_result"}


@dataclass(frozen=True, slots=True)
class Span:
    """An entity at [start, end) of a text, in code points; `label` may be IGNORED."""

    label: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Row:
    """A text and what is known of it.

    `labels` has 0 or 1 for what is known. `spans` is None where nobody marked entities. `attack` is, for an injected
    document, where the injection stands. `set` names the kind of row within its source, `split` is "train", "dev" or
    "test". `weak`: the labels follow from the source, and nobody judged this row.
    """

    id: str
    text: str = field(repr=False)
    role: str
    lang: str
    source: str
    labels: Mapping[str, int]
    set: str = ""
    split: str = "train"
    spans: tuple[Span, ...] | None = None
    attack: tuple[tuple[int, int], ...] = ()
    weak: bool = False


def read(path: Path) -> Iterator[Row]:
    """The rows of a file. Raises ConfigError, naming file and line, for what is no row."""
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            try:
                yield _row(json.loads(line))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise ConfigError(f"{path.name}:{number}: not a row ({type(error).__name__}: {error})") from None


def read_all(folders: Iterable[Path]) -> list[Row]:
    """The rows of every *.jsonl of the folders, in the order of their names. A missing folder is a ConfigError."""
    rows: list[Row] = []
    for folder in folders:
        if not folder.is_dir():
            raise ConfigError(f"there is no folder {folder}")
        for path in sorted(folder.glob("*.jsonl")):
            rows += read(path)
    return rows


def second(folders: Iterable[Path]) -> dict[str, dict[str, int]]:
    """Labels that another person gave, by row id: of own rows that have `second`, the labels that are true."""
    found: dict[str, dict[str, int]] = {}
    for path in (path for folder in folders for path in sorted(folder.glob("*.jsonl"))):
        with path.open(encoding="utf-8") as lines:
            for line in lines:
                if '"second"' in line and isinstance((data := json.loads(line)).get("second"), list):
                    found[data["id"]] = _own(data["second"], data.get("unknown", ()))
    return found


def parted(rows: Iterable[Row], dev: int = 12) -> list[Row]:
    """The rows; of those that no author has put into a split, one in `dev` is set aside for development, by its id."""
    return [
        replace(row, split="dev") if not row.set and row.split == "train" and _draw(row.id) % dev == 0 else row
        for row in rows
    ]


def _draw(identity: str) -> int:
    return int.from_bytes(hashlib.blake2b(identity.encode(), digest_size=4).digest())


def known(rows: Iterable[Row], label: str) -> list[Row]:
    """The rows of which `label` is known."""
    return [row for row in rows if label in row.labels]


def _row(data: Mapping[str, Any]) -> Row:
    labels = data["labels"]
    spans = data.get("spans")
    own = "criteria" in data
    entities = spans is not None if own else bool(spans) or labels.get("pii") in (0, 1)
    return Row(
        id=data["id"],
        text=data["text"],
        role=_ROLES[data["role"]],
        lang=data["lang"],
        source=data["source"],
        labels=_own(labels, data.get("unknown", ())) if own else _labels(labels),
        set=data.get("set", "") if own else "",
        split=data.get("split", "train") if own else "train",
        spans=_spans(spans or (), own) if entities else None,
        attack=tuple((s["start"], s["end"]) for s in spans or () if s["type"] == "INJECTION"),
        weak=not own and bool(labels.get("weak", False)),
    )


def _own(true: Collection[str], unknown: Collection[str]) -> dict[str, int]:
    """Our own rows name what is true of them; all else of the vocabulary is false, but for what they call unknown.

    Where a union is unknown, so are those of its parts that are not named.
    """
    found: dict[str, int] = {}
    for check, labels in LABELS.items():
        if check != "pii":
            vague = labels[0] in unknown
            found |= {label: int(label in true) for label in labels if label in true or not vague or label == "toxic"}
    every = {label for check, labels in LABELS.items() if check != "pii" for label in labels}
    if stray := (set(true) | set(unknown)) - every:
        raise ValueError(f"no such label: {', '.join(sorted(stray))}")
    return {label: value for label, value in found.items() if label in true or label not in unknown}


def _labels(labels: Mapping[str, Any]) -> dict[str, int]:
    """A public source's labels as ours. A hazard is known where the row is safe, or names hazards of our list."""
    found = {
        name: labels[name] for name in ("unsafe", "toxic", "injection", "noncompliant") if labels.get(name) in (0, 1)
    }
    hazards = [hazard for hazard in labels.get("hazards") or () if hazard in HAZARDS]
    if found.get("unsafe") == 0 or hazards:
        found |= {hazard: int(hazard in hazards) for hazard in HAZARDS}
    if labels.get("jailbreak") == 1:
        found |= {"injection": 1, "jailbreak": 1}
    if found.get("injection") == 0:
        found |= dict.fromkeys(WAYS, 0)
    if found.get("noncompliant") == 0:
        found |= dict.fromkeys(VIOLATIONS, 0)
    elif violation := _VIOLATION.get(labels.get("compliance_type") or ""):
        found |= {each: int(each == violation) for each in VIOLATIONS}
    return found


def _spans(spans: Iterable[Mapping[str, Any]], own: bool) -> tuple[Span, ...]:
    found = []
    for span in spans:
        label = span["type"] if own else _ENTITY.get(span["type"], IGNORED)
        if span["type"] != "INJECTION" and span["type"] not in _NOT_PERSONAL:
            found.append(Span(label, span["start"], span["end"]))
    return tuple(sorted(found, key=lambda span: (span.start, -span.end)))
