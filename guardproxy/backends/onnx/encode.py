"""Text into what the embedded models read, the same for training, export and serving.

- A text is `[CLS] role text [SEP]`: the word that says what it is (a user's prompt, an assistant's completion, a
  document) stands at a place that no text can reach, and control tokens written in a text are ordinary characters.
- A longer text is cut into slices that overlap. Nothing is cut off.
- The vocabulary is uncased, so each token also carries its shape (case, digits), for the models that find names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

ROLES: Mapping[str, str] = {"prompt": "user", "completion": "assistant", "tool_result": "document"}
"""The word of the vocabulary that stands for what a text is."""

FRAME = 3  # tokens of a slice that are not the text's: [CLS], the role, [SEP]
SHAPES = 14  # how many shapes there are; 0 is a token that is not the text's

_CONTINUES = "##"


@dataclass(frozen=True, slots=True)
class Slice:
    """A stretch of a text as a model reads it. `offsets` count in the text, one pair a token, (0, 0) for the frame."""

    ids: NDArray[np.int64]  # [tokens]
    shapes: NDArray[np.int64]  # [tokens]
    offsets: Sequence[tuple[int, int]]
    unknown: int  # tokens that the vocabulary has no word for

    @property
    def tokens(self) -> int:
        """Length, frame included."""
        return len(self.ids)


class Encoder:
    """Tokenises texts. Safe to use from several threads at once.

    `max_tokens`: the length of a slice, frame included. `overlap`: tokens that a slice shares with the one before.
    `unknown`: the id of a word that the vocabulary does not have.
    """

    def __init__(self, tokenizer: Path, max_tokens: int = 128, overlap: int = 32) -> None:
        self._tokenizer = Tokenizer.from_file(str(tokenizer))
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._tokenizer.encode_special_tokens = True
        self.max_tokens, self.overlap = max_tokens, overlap
        self._start, self._end = self._id("[CLS]"), self._id("[SEP]")
        self.unknown = self._id("[UNK]")
        self._roles = {role: self._id(word) for role, word in ROLES.items()}

    def _id(self, token: str) -> int:
        number = self._tokenizer.token_to_id(token)
        if number is None:
            raise ValueError(f"the vocabulary has no {token}")
        return int(number)

    def encode(self, text: str, role: str) -> list[Slice]:
        """The text's slices, at least one. `role` is a key of ROLES."""
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        ids, offsets = encoding.ids, encoding.offsets
        shapes = [_shape(token, text[a:b]) for token, (a, b) in zip(encoding.tokens, offsets, strict=True)]
        size = self.max_tokens - FRAME
        step = size - self.overlap
        starts = range(0, max(len(ids) - self.overlap, 1), step)
        return [self._slice(ids[s : s + size], shapes[s : s + size], offsets[s : s + size], role) for s in starts]

    def _slice(self, ids: list[int], shapes: list[int], offsets: list[tuple[int, int]], role: str) -> Slice:
        return Slice(
            np.array([self._start, self._roles[role], *ids, self._end], dtype=np.int64),
            np.array([0, 0, *shapes, 0], dtype=np.int64),
            [(0, 0), (0, 0), *offsets, (0, 0)],
            ids.count(self.unknown),
        )


def _shape(token: str, written: str) -> int:
    """1-8 for a word's first piece, 9-13 for a further one."""
    if token.startswith(_CONTINUES):
        return _continued(written)
    if written.isdigit():
        return 6
    if not written.isalnum():
        return 8
    if not written.isalpha():
        return 7
    if written.islower():
        return 1
    if not written.isupper():
        return 2 if written[0].isupper() and written[1:].islower() else 5
    return 4 if len(written) == 1 else 3


def _continued(written: str) -> int:
    if written.isdigit():
        return 11
    if not written.isalnum():
        return 13
    if not written.isalpha():
        return 12
    return 9 if written.islower() else 10
