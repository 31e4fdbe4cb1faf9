"""Texts that are nearly the same, found in time linear in the number of texts.

MinHash signatures of character shingles (Broder 1997), banded so that only texts that share a band are compared
(Indyk and Motwani 1998); a band's crowd is compared with a few of it alone. What is reported was compared exactly, by
the Jaccard index of the shingles. White space and case do not count.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b
from itertools import chain
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

SHINGLE = 5  # characters
ALIKE = 0.8  # Jaccard index from which on two texts are nearly the same
_HASHES, _BANDS = 64, 16
_FEW = 4  # texts of one group that a band's further texts are compared with
_ROUGH = 0.55  # share of equal hashes from which on it is worth comparing exactly
_LONGEST = 20_000  # characters that are looked at


class Pair(NamedTuple):
    """Two texts by number, first < second, and how alike they are: 1 for the same."""

    first: int
    second: int
    alike: float


def plain(text: str) -> str:
    """The text without case and with single spaces: what two duplicates have in common."""
    return " ".join(text.casefold().split())


def duplicates(texts: Iterable[str]) -> list[list[int]]:
    """Numbers of texts that are the same but for case and white space, in groups of two and more."""
    groups: defaultdict[bytes, list[int]] = defaultdict(list)
    for number, text in enumerate(texts):
        groups[blake2b(plain(text).encode("utf-8", "surrogatepass"), digest_size=16).digest()].append(number)
    return [group for group in groups.values() if len(group) > 1]


def near(texts: Sequence[str], groups: Sequence[str], alike: float = ALIKE) -> list[Pair]:
    """Pairs of texts that are nearly the same, exact duplicates included. Not every pair of a crowd is named.

    `groups`: to what each text belongs (its split, say); of a crowd some pair is named for each two groups in it.
    """
    signatures = np.array([_signature(_shingles(text)) for text in texts], np.uint32).reshape(-1, _HASHES)
    found: dict[tuple[int, int], float] = {}
    for first, second in _candidates(signatures, groups):
        if (first, second) in found or (signatures[first] == signatures[second]).mean() < _ROUGH:
            continue
        found[first, second] = jaccard(texts[first], texts[second])
    return [Pair(*pair, value) for pair, value in sorted(found.items()) if value >= alike]


def jaccard(one: str, other: str) -> float:
    """The share of the shingles of both that are in both."""
    a, b = _shingles(one), _shingles(other)
    common = len(np.intersect1d(a, b, assume_unique=True))
    return common / (len(a) + len(b) - common)


def _shingles(text: str) -> NDArray[np.uint64]:
    """Hashes of the runs of SHINGLE characters, each once; of a shorter text all of it."""
    codes = np.frombuffer(plain(text)[:_LONGEST].encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64)
    if len(codes) < SHINGLE:
        codes = np.concatenate((codes, np.zeros(SHINGLE - len(codes), np.uint64)))
    size = len(codes) - SHINGLE + 1
    hashed = np.zeros(size, np.uint64)
    for place in range(SHINGLE):
        hashed = (hashed ^ codes[place : place + size]) * np.uint64(0x9E3779B97F4A7C15)
        hashed ^= hashed >> np.uint64(29)
    return np.unique(hashed)


_dice = np.random.default_rng(20_011)
_FACTORS = _dice.integers(1, 2**63, (_HASHES, 1), np.uint64) * np.uint64(2) + np.uint64(1)
_SHIFTS = _dice.integers(0, 2**63, (_HASHES, 1), np.uint64)


def _signature(shingles: NDArray[np.uint64]) -> NDArray[np.uint32]:
    """The least of each hash function (multiply-shift: Dietzfelbinger et al. 1997)."""
    return np.asarray(((_FACTORS * shingles + _SHIFTS) >> np.uint64(32)).min(axis=1).astype(np.uint32))


def _candidates(signatures: NDArray[np.uint32], groups: Sequence[str]) -> Iterator[tuple[int, int]]:
    rows = _HASHES // _BANDS
    for band in range(_BANDS):
        keys = np.ascontiguousarray(signatures[:, band * rows : (band + 1) * rows])
        seen: defaultdict[bytes, defaultdict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
        for number, key in enumerate(keys):
            crowd = seen[key.tobytes()]
            for other in chain.from_iterable(crowd.values()):
                yield other, number
            mine = crowd[groups[number]]
            if len(mine) < _FEW:
                mine.append(number)
            else:
                mine[-1] = number  # the newest: texts of one origin stand together
