"""Floors on labelled data, a little below what was measured. They show a step backwards; they are no score."""

from __future__ import annotations

from collections import Counter

import pytest

from guardproxy.checks.pii import SPEC, Pii
from tests.checks.forms import found, reading, rows

pytestmark = pytest.mark.shared
PII = Pii({})

LABELS = {
    "EMAIL": "EMAIL_ADDRESS",
    "PHONE": "PHONE_NUMBER",
    "US_SSN": "US_SSN",
    "DATE_OF_BIRTH": "DATE_OF_BIRTH",
    "IP": "IP_ADDRESS",
    "MAC": "MAC_ADDRESS",
    "PASSPORT": "PASSPORT",
}
RECALL = {
    "EMAIL": 0.99,
    "PHONE": 0.99,
    "US_SSN": 0.97,  # of those whose area number exists; the set draws it at random
    "DATE_OF_BIRTH": 0.78,  # the rest stands in tables without a word
    "IP": 0.95,
    "MAC": 0.99,
    "PASSPORT": 0.7,
}


def test_values_of_synthetic_documents_are_found_whole() -> None:
    hits: Counter[str] = Counter()
    total: Counter[str] = Counter()
    right: Counter[str] = Counter()
    given: Counter[str] = Counter()
    for number, row in enumerate(rows("pii_anon_synth.jsonl")):
        if number % 5:
            continue
        findings = [f for f in PII.find(reading(row["text"])) if f.score >= 0.5]
        for span in row["spans"]:
            kind = span["type"]
            if kind not in LABELS or (kind == "US_SSN" and not _issued(row["text"][span["start"] : span["end"]])):
                continue
            total[kind] += 1
            hits[kind] += any(f.start <= span["start"] and span["end"] <= f.end for f in findings)
        for f in findings:
            given[f.label] += 1
            right[f.label] += any(f.start < s["end"] and s["start"] < f.end for s in row["spans"])
    assert {
        kind: round(hits[kind] / total[kind], 2) for kind in RECALL if hits[kind] / total[kind] < RECALL[kind]
    } == {}
    for label in ("EMAIL_ADDRESS", "US_SSN", "DATE_OF_BIRTH", "IP_ADDRESS"):
        assert right[label] / given[label] > 0.98, label


def _issued(number: str) -> bool:
    return number[:3] not in ("000", "666") and number[:1] != "9" and "-00-" not in number and number[-4:] != "0000"


def test_unit_tests_of_another_recogniser() -> None:
    """Found at any score where it is there; not at 0.5 where it is not."""
    hits = positives = alarms = negatives = 0
    for row in rows("presidio_recognizer_tests.jsonl"):
        label = row["labels"]["native"]["entity"]
        if label not in SPEC.labels:
            continue
        if row["spans"]:
            positives += 1
            hits += label in {found_label for found_label, _ in found(PII, row["text"], least=0.1)}
        else:
            negatives += 1
            alarms += label in {found_label for found_label, _ in found(PII, row["text"])}
    assert hits / positives > 0.85
    assert alarms / negatives < 0.02


@pytest.mark.parametrize("name", ["banking77.jsonl", "multiq_benign.jsonl", "advbench.jsonl"])
def test_prompts_without_personal_data_stay_silent(name: str) -> None:
    texts = [row["text"] for number, row in enumerate(rows(name)) if number % 4 == 0]
    assert sum(bool(found(PII, text)) for text in texts) / len(texts) < 0.002
