"""What gives a label away without being it: length, punctuation, hedging, the first word, single words.

Each probe is a logistic regression, judged on sets of rows that it has not seen, so that it cannot learn an author's
habits by heart. A probe of the surface alone that tells a label well says that the rows teach the surface.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, hstack  # type: ignore[import-untyped]
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.preprocessing import StandardScaler

from guardproxy.evaluation.metrics import Truth, auc

FOLDS = 5
TELLING = 10  # words named in either direction
_HEDGES = re.compile(
    r"\b(?:not sure|i think|i guess|maybe|perhaps|might|may|could|probably|possibly|sorry|apologi[sz]e|unfortunately"
    r"|cannot|can't|can not|however|please consult|consult|professional|disclaimer"
    r"|not (?:financial|legal|medical) advice"
    r"|in general|generally|usually|typically|it depends|vielleicht|leider|allerdings|peut-être|désolé|quizás"
    r"|lo siento|forse|purtroppo|misschien|helaas)\b"
)
_WORDS = re.compile(r"\w+")
_FIRST_WORDS = 60


@dataclass(frozen=True, slots=True)
class Probe:
    """Areas under the ROC curve, 0.5 for nothing to learn: of length alone (above 0.5: longer texts have the label),
    of the surface, and of single words. `for_it` and `against`: the words that tell most.
    """

    rows: int
    positives: int
    length: float
    surface: float
    words: float
    for_it: tuple[str, ...]
    against: tuple[str, ...]


def probe(texts: Sequence[str], truth: Truth, groups: Sequence[str], seed: int = 0) -> Probe:
    """What tells `truth` of the texts. `groups`: the set of each; rows of one set are never on both sides."""
    surface = _surface(texts)
    counter = CountVectorizer(binary=True, min_df=3, tokenizer=_WORDS.findall, token_pattern=None, max_features=20_000)
    try:
        words = counter.fit_transform(texts)
        names = counter.get_feature_names_out()
    except ValueError:  # no word is in three texts
        words, names = csr_matrix((len(texts), 1)), np.array([""])
    model = _model(seed).fit(words, truth)
    order = np.argsort(model.coef_[0])
    return Probe(
        len(texts),
        int(truth.sum()),
        float(auc(truth, surface[:, 0])),
        _held_out(_with_first(texts, surface), truth, groups, seed),
        _held_out(words, truth, groups, seed),
        tuple(str(names[at]) for at in order[::-1][:TELLING] if model.coef_[0][at] > 0),
        tuple(str(names[at]) for at in order[:TELLING] if model.coef_[0][at] < 0),
    )


def _held_out(features: Any, truth: Truth, groups: Sequence[str], seed: int) -> float:
    """The area on rows of unseen sets; NaN where there are too few sets with either."""
    folds = min(FOLDS, len({g for g, t in zip(groups, truth, strict=True) if t}), int(truth.sum()), int((~truth).sum()))
    if folds < 2:
        return float("nan")
    scores = np.zeros(len(truth))
    splits = StratifiedGroupKFold(folds, shuffle=True, random_state=seed).split(scores, truth, groups)
    for train, test in splits:
        if len(set(truth[train])) < 2:
            return float("nan")
        scores[test] = _model(seed).fit(features[train], truth[train]).decision_function(features[test])
    return float(auc(truth, scores))


def _model(seed: int) -> Any:
    return LogisticRegression(C=0.3, class_weight="balanced", solver="liblinear", random_state=seed)


def _surface(texts: Sequence[str]) -> NDArray[np.float64]:
    """[texts, features] of form, the logarithm of the length first."""
    return np.array([_form(text) for text in texts])


def _form(text: str) -> tuple[float, ...]:
    size = max(len(text), 1)
    words = text.split()
    punctuation = sum(unicodedata.category(char).startswith("P") for char in text)
    return (
        float(np.log1p(len(text))),
        float(np.log1p(len(words))),
        size / max(len(words), 1),
        punctuation / size,
        sum(map(text.count, "?？¿")),
        sum(map(text.count, "!！")),
        sum(map(text.count, ",，、")),
        sum(map(text.count, ":;：")),
        sum(map(text.count, "\"'“”«»")),
        text.count("\n"),
        sum(char.isdigit() for char in text) / size,
        sum(char.isupper() for char in text) / size,
        float(text[:1].isupper()),
        float(text.rstrip()[-1:] in (".", "。")),
        float(text.rstrip()[-1:] in ("?", "？")),
        float(np.log1p(len(_HEDGES.findall(text.casefold())))),
    )


def _with_first(texts: Sequence[str], surface: NDArray[np.float64]) -> Any:
    """The form, scaled, and which of the commonest words a text begins with."""
    first = [found[0].casefold() if (found := _WORDS.search(text)) else "" for text in texts]
    counter = CountVectorizer(binary=True, tokenizer=lambda word: [word] if word else [""], token_pattern=None)
    counter.set_params(max_features=_FIRST_WORDS, lowercase=False)
    return hstack([csr_matrix(StandardScaler().fit_transform(surface)), counter.fit_transform(first)]).tocsr()
