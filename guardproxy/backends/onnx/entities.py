"""Token logits into entities: whole words, labelled by the most probable sequence of tags that can be.

- Slices overlap; each token is decided by the slice in which it stands farther from the edge, where most of what is
  around it was read.
- The pieces of a word are decided together, so that an entity never begins or ends inside one.
- Tags are BIO (Ramshaw and Marcus 1995): I follows B or I of the same label. The sequence is Viterbi's, over the
  stretches alone in which something other than O is thinkable.

Calibration fits its curves on the very `logit` of an entity that is made here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from guardproxy.backends.onnx.encode import FRAME, Slice

_HEAD = FRAME - 1  # tokens of a slice before the text's own
_THINKABLE = 0.01  # probability of not being O from which on a word is looked at
_SURE = 1e-6  # probabilities are kept this far from 0 and 1, so that their logits are finite
_UNSPACED = 0x2E80  # scripts that are written without spaces between words start here

Logits = NDArray[np.floating]


class Entity(NamedTuple):
    """An entity of the label with that number, at [start, end) of the text that was tokenised.

    `logit`: of its label's probability, averaged over its tokens; not calibrated.
    """

    label: int
    start: int
    end: int
    logit: float


def entities(text: str, slices: Sequence[Slice], logits: Sequence[Logits], overlap: int) -> list[Entity]:
    """The entities of a text, in order and apart from each other.

    `logits`: for each slice, [tokens, tags], frame included; tags are O and then B and I of each label. `overlap` is
    the encoder's.
    """
    scores, offsets = joined(slices, logits, overlap)
    if not len(scores):
        return []
    logs = _log_softmax(scores)
    if not (np.exp(logs[:, 0]) <= 1 - _THINKABLE).any():
        return []
    starts = _words(text, offsets)
    emissions, mass = _emissions(logs, starts)
    ends = np.append(starts[1:], len(offsets))
    found: list[Entity] = []
    for low, high in _stretches(emissions[:, 0]):
        path = _viterbi(emissions[low:high])
        for label, first, last in _runs(path):
            tokens = slice(starts[low + first], ends[low + last - 1])
            p = float(np.clip(mass[tokens, label].mean(), _SURE, 1 - _SURE))
            start, end = int(offsets[tokens.start, 0]), int(offsets[tokens.stop - 1, 1])
            found.append(Entity(label, start, end, float(np.log(p / (1 - p)))))
    return found


def joined(
    slices: Sequence[Slice], logits: Sequence[Logits], overlap: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """One row of logits and one pair of offsets for each token of the text, frames left out."""
    sizes = [piece.tokens - FRAME for piece in slices]
    step = sizes[0] - overlap
    total = step * (len(slices) - 1) + sizes[-1]
    scores = np.zeros((total, logits[0].shape[1]))
    offsets = np.zeros((total, 2), np.int64)
    best = np.full(total, -1)
    for number, (piece, values) in enumerate(zip(slices, logits, strict=True)):
        size, at = sizes[number], number * step
        places = np.arange(size)
        left = np.full(size, total) if number == 0 else places
        right = np.full(size, total) if number == len(slices) - 1 else places[::-1]
        distance = np.minimum(left, right)
        better = distance > best[at : at + size]
        best[at : at + size][better] = distance[better]
        scores[at : at + size][better] = values[_HEAD : _HEAD + size][better]
        offsets[at : at + size] = np.asarray(piece.offsets[_HEAD : _HEAD + size], np.int64).reshape(size, 2)
    return scores, offsets


def _log_softmax(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    shifted = scores - scores.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))


def _words(text: str, offsets: NDArray[np.int64]) -> NDArray[np.int64]:
    """The numbers of the tokens that begin a word: all but those that letters or digits join to the one before."""
    starts = [0]
    ends = offsets[:, 1].tolist()
    for number, (start, before) in enumerate(zip(offsets[1:, 0].tolist(), ends, strict=False), 1):
        if start > before or (start == before and not _inside(text, start)):
            starts.append(number)
    return np.array(starts)


def _inside(text: str, at: int) -> bool:
    pair = text[at - 1 : at + 1]
    return at > 0 and len(pair) == 2 and all(char.isalnum() and ord(char) < _UNSPACED for char in pair)


def _emissions(logs: NDArray[np.float64], starts: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The log-probability of each tag for each word, [words, tags], and each token's probability of each label.

    A word that begins an entity has B on its first piece; the others may have either, which depends on the slice.
    """
    mass = np.logaddexp(logs[:, 1::2], logs[:, 2::2])
    tags = np.empty_like(logs)
    tags[:, 0], tags[:, 1::2], tags[:, 2::2] = logs[:, 0], mass, mass
    tags[starts, 1::2], tags[starts, 2::2] = logs[starts, 1::2], logs[starts, 2::2]
    return np.add.reduceat(tags, starts, axis=0), np.exp(mass)


def _stretches(outside: NDArray[np.float64]) -> Iterator[tuple[int, int]]:
    """Runs of words for which something other than O is thinkable, as [first, last + 1)."""
    thinkable = np.concatenate(([False], outside <= np.log(1 - _THINKABLE), [False]))
    edges = np.flatnonzero(thinkable[1:] != thinkable[:-1])
    yield from zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)


def _viterbi(emissions: NDArray[np.float64]) -> list[int]:
    """The most probable tags of a stretch, before which stands O."""
    words, tags = emissions.shape
    back = np.zeros((words, tags), np.int64)
    inside = np.arange(2, tags, 2)
    score = emissions[0].copy()
    score[inside] = -np.inf  # nothing to go on with
    for word in range(1, words):
        best = int(score.argmax())
        back[word] = best
        come = np.where(score[inside] > score[inside - 1], inside, inside - 1)
        back[word, inside] = come
        following = emissions[word] + score[best]
        following[inside] = emissions[word, inside] + score[come]
        score = following
    tag = int(score.argmax())
    path = [tag]
    for word in range(words - 1, 0, -1):
        tag = int(back[word, tag])
        path.append(tag)
    return path[::-1]


def _runs(path: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """Label, first word and last word + 1 of each entity of a path."""
    label, first = -1, 0
    for place, tag in enumerate([*path, 0]):
        if tag and not tag % 2:
            continue  # it goes on
        if label >= 0:
            yield label, first, place
        label, first = ((tag - 1) // 2, place) if tag else (-1, 0)
