"""`guardproxy decisions`: what the decision log knows of a decision id that a caller was given."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from typing import Any

from guardproxy.audit import find
from guardproxy.errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of this command."""
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    show = verbs.add_parser("show", help="show what was decided under an id, and by which rules and checks")
    show.add_argument("id", metavar="ID", help="the decision id, as the response's header has it")
    show.add_argument("--log", metavar="PATH", required=True, help="the decision log to look in")
    show.add_argument("--json", action="store_true", help="print the records as they were written, one a line")


def run(arguments: argparse.Namespace) -> int:
    """Prints the records of one id. 1 if there are none; raises ConfigError if the log cannot be read."""
    try:
        records = find(arguments.log, arguments.id)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise ConfigError(f"decision log {arguments.log!r}: {reason}") from None
    if not records:
        print("No record of this id. The log may have been rotated: older files can be searched with --log too.")
        return 1
    for number, record in enumerate(records):
        if arguments.json:
            print(json.dumps(record))
        else:
            print("\n" * bool(number) + "\n".join(_lines(record)))
    return 0


def _lines(record: Mapping[str, Any]) -> Iterator[str]:
    """One record for a person to read. What is not known by name is shown as it is, so that nothing stays hidden."""
    head = [record.get(key) for key in ("time", "side", "action")]
    yield "  ".join(_plain(word) for word in head if word is not None)
    known = {"time", "side", "action", "checks", "escalations", "edits"}
    for key, value in record.items():
        if key not in known and value not in ("", [], False):
            yield f"  {_plain(key)}: {_plain(', '.join(map(str, value)) if isinstance(value, list) else value)}"
    for key in ("escalations", "edits", "checks"):
        entries = record.get(key)
        for entry in entries if isinstance(entries, list) else ():
            yield f"  {key.removesuffix('s')}: {_entry(entry)}"


def _entry(entry: Any) -> str:
    if not isinstance(entry, dict):
        return _plain(entry)
    words = []
    for key, value in entry.items():
        if isinstance(value, dict):
            value = " ".join(f"{label}={amount}" for label, amount in value.items())
        words.append(_plain(value) if key in {"check", "outcome"} else f"{_plain(key)} {_plain(value)}")
    return ", ".join(words)


def _plain(value: Any) -> str:
    """Printable characters alone, so that a log cannot drive the terminal it is shown on."""
    return "".join(character if character.isprintable() else "?" for character in str(value))
