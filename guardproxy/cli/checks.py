"""`guardproxy checks`: what the checks are, what they find, and what their rules know and miss."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from textwrap import fill
from typing import Any

from guardproxy.backends import rules
from guardproxy.checks.base import CheckSpec
from guardproxy.checks.registry import specs
from guardproxy.config import Settings
from guardproxy.errors import ConfigError
from guardproxy.strict import suggest

_WIDTH = 100
_SHOWN = ("f1", "recall", "fpr", "auprc", "ece", "strict f1, with forms", "relaxed f1, with forms")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of this command."""
    parser.add_argument("name", nargs="?", metavar="NAME", help="show one check: its labels and its rules' card")


def run(arguments: argparse.Namespace) -> int:
    """Prints all checks, or one. Raises ConfigError for one that does not exist."""
    known = specs()
    if arguments.name is None:
        print("\n\n".join(_listed(spec) for spec in known.values()))
        return 0
    if arguments.name not in known:
        hint = suggest(arguments.name, known) or f"; there are {', '.join(known)}"
        raise ConfigError(f"there is no check `{arguments.name}`{hint}")
    spec = known[arguments.name]
    print(_listed(spec))
    if adapter := _adapter(spec.name):
        print(f"\n{adapter}")
    if spec.name in rules.CHECKS:
        print(f"\n{_card(rules.card(spec.name))}")
    return 0


def _adapter(check: str) -> str:
    """What the release that comes along says of its adapter for the check; "" where it has none."""
    from guardproxy.backends.onnx.artefact import Artefact  # loads numpy and a folder of files

    artefact = Artefact.load()
    if check not in artefact.adapters:
        return ""
    card = artefact.adapters[check].card
    lines = [f"The small model (adapters {artefact.release}, version {card.version})"]
    lines.append(_paragraph("languages: " + ", ".join(card.languages)))
    lines += [_paragraph(f"{key}: {card.about[key].strip()}") for key in ("summary", "limits") if card.about.get(key)]
    try:
        measured = json.loads(artefact.read(f"{check}/{card.version}/eval.json"))
    except (KeyError, ConfigError, ValueError):
        return "\n".join(lines)
    lines.append(_paragraph(f"measured {measured['date']} on {measured['hardware']}, with 95 % intervals:"))
    for cell in measured["cells"]:
        if cell["kind"] == "rows":
            figures = (f"{name} {_figure(cell['figures'][name])}" for name in _SHOWN if name in cell["figures"])
            lines.append(
                _paragraph(f"{cell['label']}, {cell['group']} ({cell['rows']} rows): " + ", ".join(figures), "    ")
            )
    return "\n".join(lines)


def _figure(figure: Mapping[str, float | None]) -> str:
    value, low, high = (figure[name] for name in ("value", "low", "high"))
    if value is None or low is None or high is None:
        return "-"
    return f"{value:.2f} ({low:.2f}-{high:.2f})"


def _listed(spec: CheckSpec) -> str:
    labels = ", ".join(sorted(spec.labels))
    if spec.open_labels:
        labels = f"{labels}, and those that the policy defines" if labels else "those that the policy defines"
    stages = (
        f"\n{_paragraph('stages: ' + ', '.join(dict.fromkeys((Settings().backend, *spec.ladder))))}"
        if spec.ladder
        else ""
    )
    return f"{spec.name}\n{_paragraph(spec.summary)}\n{_paragraph('labels: ' + labels)}{stages}"


def _card(card: Mapping[str, Any]) -> str:
    lines = [f"The rules ({card['rules']} of them, {card.get('name', '')} {card.get('version', '')})".rstrip()]
    languages = card.get("languages", ())
    lines.append(_paragraph("languages: " + (", ".join(languages) if not isinstance(languages, str) else languages)))
    lines += [_paragraph(f"{key}: {card[key]}") for key in ("summary", "limits") if card.get(key)]
    lines.append("  labels:")
    lines += [_paragraph(f"{label}: {meaning}", "    ") for label, meaning in card["labels"].items()]
    return "\n".join(lines)


def _paragraph(words: str, indent: str = "  ") -> str:
    return fill(words, _WIDTH, initial_indent=indent, subsequent_indent=indent + "  ", break_long_words=False)
