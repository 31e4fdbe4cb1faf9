"""`guardproxy checks`: what the checks are, what they find, and what their rules know and miss."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from textwrap import fill
from typing import Any

from guardproxy.backends import rules
from guardproxy.checks.base import CheckSpec
from guardproxy.checks.registry import specs
from guardproxy.errors import ConfigError
from guardproxy.strict import suggest

_WIDTH = 100


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
    if spec.name in rules.CHECKS:
        print(f"\n{_card(rules.card(spec.name))}")
    return 0


def _listed(spec: CheckSpec) -> str:
    labels = ", ".join(sorted(spec.labels))
    if spec.open_labels:
        labels = f"{labels}, and those that the policy defines" if labels else "those that the policy defines"
    stages = f"\n{_paragraph('stages: ' + ', '.join(spec.ladder))}" if spec.ladder else ""
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
