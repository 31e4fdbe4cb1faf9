"""How good a model is on rows kept apart, while it is trained: enough to know when to stop.

Areas under the precision-recall curve need no threshold. Each source counts alike, so that the largest does not decide.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from sklearn.metrics import average_precision_score

from guardproxy.backends.onnx.encode import Encoder
from guardproxy.evaluation.datasets import LABELS, Row
from guardproxy.training.config import Source, TrainConfig
from guardproxy.training.examples import IGNORE, Example, example
from guardproxy.training.model import Judges

MOST = 25  # rows of a public source that are looked at
_WATCHED = {"toxicity": ("unsafe", "toxic"), "injection": ("injection",), "compliance": ("noncompliant",)}


def chosen(rows: Sequence[Row], config: TrainConfig) -> list[Row]:
    """The development rows: those that an author wrote as such, and some of each source that is trained on."""
    sources = {source.name for source in config.sources}
    found: list[Row] = []
    seen: Counter[str] = Counter()
    for row in rows:
        if row.split == "dev" and (row.set or (row.source in sources and seen[row.source] < MOST)):
            found.append(row)
            seen[row.source] += 1
    return found


@torch.inference_mode()
def score(net: Judges, rows: Sequence[Row], config: TrainConfig, encoder: Encoder, device: Any) -> Mapping[str, float]:
    """By label: average precision; for `pii` the F1 of token tags. Empty if there are no rows."""
    net.eval()
    random = np.random.default_rng(0)
    pairs = [(row, example(row, Source(row.source, 0), config.tasks, encoder, 1.0, random)) for row in rows]
    pairs.sort(key=lambda pair: len(pair[1].ids))
    logits: dict[str, list[tuple[Row, float, float]]] = defaultdict(list)
    hits: Counter[str] = Counter()
    for start in range(0, len(pairs), 64):
        _look(net, pairs[start : start + 64], device, logits, hits)
    found = {label: value for label, seen in logits.items() if (value := _precision(seen)) is not None}
    if hits["wanted"]:
        found["pii"] = 2 * hits["right"] / max(hits["wanted"] + hits["given"], 1)
    return found


def _look(
    net: Judges,
    pairs: Sequence[tuple[Row, Example]],
    device: Any,
    logits: dict[str, list[tuple[Row, float, float]]],
    hits: Counter[str],
) -> None:
    longest = max(len(each.ids) for _, each in pairs)
    ids = torch.zeros(len(pairs), longest, dtype=torch.long)
    shapes = torch.zeros_like(ids)
    for i, (_, each) in enumerate(pairs):
        ids[i, : len(each.ids)] = torch.from_numpy(each.ids)
        shapes[i, : len(each.ids)] = torch.from_numpy(each.shapes)
    ids, shapes = ids.to(device), shapes.to(device)
    mask = (ids != 0)[:, None, None, :]
    states = net.embed(ids)
    judged = [task for task in net.heads if task != "pii"]
    if judged:
        first = net.first(states, mask, 0)
        for task in judged:
            values = net.heads[task](first).float().cpu().numpy()
            for number, (row, each) in enumerate(pairs):
                for label in _WATCHED[task] if task in each.targets else ():
                    place = LABELS[task].index(label)
                    target = float(each.targets[task][place])
                    if not np.isnan(target):
                        logits[label].append((row, target, float(values[number, place])))
    if "pii" in net.heads and any(each.tags is not None for _, each in pairs):
        given = net.tag(net.layers(states, mask, 0, net.depths["pii"]), shapes, mask).argmax(-1).cpu().numpy()
        for number, (_, each) in enumerate(pairs):
            if each.tags is not None:
                got, right = given[number, : len(each.tags)], each.tags
                got, right = got[right != IGNORE], right[right != IGNORE]
                hits["right"] += int(((got == right) & (right > 0)).sum())
                hits["wanted"] += int((right > 0).sum())
                hits["given"] += int((got > 0).sum())


def _precision(seen: Sequence[tuple[Row, float, float]]) -> float | None:
    targets = np.array([target for _, target, _ in seen])
    if len(set(targets.tolist())) < 2:
        return None
    sizes = Counter((row.source, target) for row, target, _ in seen)
    weights = np.array([1 / np.sqrt(sizes[row.source, target]) for row, target, _ in seen])
    return float(average_precision_score(targets, [value for _, _, value in seen], sample_weight=weights))
