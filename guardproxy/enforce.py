"""Carries a decision out: final replacements for its edits, and the patched document. Pure; only patch() writes.

Hashes are keyed (HMAC-SHA-256), since the values that are hashed are few enough to be guessed.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Sequence
from dataclasses import replace

from guardproxy.policy.model import Method
from guardproxy.types import Edit, Path, Segment, Window
from guardproxy.vault import Vault
from guardproxy.wire.patch import patch


def resolve(edits: Iterable[Edit], vault: Vault, key: bytes) -> list[Edit]:
    """The edits with their final replacements."""
    out: list[Edit] = []
    for edit in edits:
        if edit.method == Method.PSEUDONYM:
            out.append(replace(edit, replacement=vault.pseudonym(edit.label, edit.value)))
        elif edit.method == Method.HASH:
            out.append(replace(edit, replacement=f"[{edit.label}:{keyed_hash(edit.value, key)}]"))
        else:
            out.append(edit)
    return out


def keyed_hash(value: str, key: bytes) -> str:
    """Eight hexadecimal digits that stand for `value` under `key`."""
    return hmac.new(key, value.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()[:8]


def restorations(subject: Segment | Window, vault: Vault) -> list[Edit]:
    """Edits that put the values behind the vault's pseudonyms back into a text, or into what a window releases."""
    out: list[Edit] = []
    if isinstance(subject, Window):
        for start, end, value in vault.occurrences(subject.text):
            start, end = start + subject.context_start, end + subject.context_start
            if subject.start <= start < subject.release:
                out.append(Edit(subject.segment.path, start, end, value))
        return out
    for start, end, value in vault.occurrences(subject.text):
        if not subject.pieces:
            out.append(Edit(subject.path, start, end, value))
        out += [
            Edit(piece.path, start - piece.start, end - piece.start, value)
            for piece in subject.pieces
            if piece.start <= start and end <= piece.end
        ]
    return out


def merge(edits: Iterable[Edit]) -> list[Edit]:
    """Edits that do not overlap: of those that do, the first keeps its replacement and covers them all.

    Of edits that start at the same place the longer comes first. The result is ordered by path, then by start.
    """
    by_path: dict[Path, list[Edit]] = {}
    for edit in edits:
        by_path.setdefault(edit.path, []).append(edit)
    merged: list[Edit] = []
    for group in by_path.values():
        group.sort(key=lambda edit: (edit.start, -edit.end))
        last: Edit | None = None
        for edit in group:
            if last is not None and edit.start < last.end:
                last = merged[-1] = replace(last, end=max(last.end, edit.end), literal=last.literal or edit.literal)
            else:
                last = edit
                merged.append(edit)
    return merged


def rewrite(document: bytes, edits: Sequence[Edit], segments: Iterable[Segment]) -> bytes:
    """The document with the edits made, and with what echoes an edited text (token probabilities) emptied."""
    if not edits:
        return document
    merged = merge(edits)
    touched = {edit.path for edit in merged}
    echoes = {
        segment.echo
        for segment in segments
        if segment.echo is not None and (segment.path in touched or any(p.path in touched for p in segment.pieces))
    }
    return patch(document, merged, echoes)
