"""One text, one pass: tokenised once, read once at its exact length, and judged by every check that was asked.

Runs on the pool's threads. No text is batched with another: on a CPU that gains nothing, and with dynamic quantisation
a text's scores would depend on what else is in the batch. A text that a check's card rules out is not read for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from guardproxy.backends.onnx.decode import Decoder, Judgement
from guardproxy.backends.onnx.encode import Encoder, Slice
from guardproxy.backends.onnx.entities import Logits
from guardproxy.backends.onnx.fitness import TOO_LONG, unfit
from guardproxy.backends.onnx.pool import TOO_LATE
from guardproxy.backends.onnx.schedule import Job
from guardproxy.backends.onnx.session import Graph
from guardproxy.errors import BackendError

MOST_CHARACTERS = 16_384
"""A longer text is not even tokenised. The windows that are judged are shorter by far."""

_CHARACTERS = 4  # to a token, in prose


class _Encoded(NamedTuple):
    """A text ready to be read by the checks that may; of the others, why not."""

    slices: Sequence[Slice]
    fit: frozenset[str]
    unfit: Mapping[str, Judgement]


class Passes:
    """The pool's reader. Immutable, hence safe to share between threads."""

    def __init__(self, encoder: Encoder, graphs: Sequence[Graph], decoders: Mapping[str, Decoder]) -> None:
        """`graphs` smallest first; the last one has every check."""
        self._encoder, self._graphs, self._decoders = encoder, graphs, decoders

    def encode(self, job: Job) -> tuple[int, _Encoded]:
        """The text in slices, and the number of tokens in them; 0 if no check may read it."""
        if len(job.text) > MOST_CHARACTERS:
            return 0, _Encoded((), frozenset(), dict.fromkeys(job.checks, Judgement(TOO_LONG)))
        if not job.text.strip():
            return 0, _Encoded((), frozenset(), dict.fromkeys(job.checks, Judgement()))  # nothing is there to judge
        slices = self._encoder.encode(job.text, job.role)
        reasons = {
            check: unfit(self._decoders[check].card, job.text, slices, self._encoder.unknown) for check in job.checks
        }
        fit = frozenset(check for check, reason in reasons.items() if not reason)
        ruled_out = {check: Judgement(reason) for check, reason in reasons.items() if reason}
        return sum(piece.tokens for piece in slices) if fit else 0, _Encoded(slices, fit, ruled_out)

    def read(self, job: Job, encoded: _Encoded, given_up: Callable[[], bool]) -> Mapping[str, Judgement]:
        """The judgement of each check of the job. Raises BackendError where it is given up."""
        judgements = dict(encoded.unfit)
        if not encoded.fit:
            return judgements
        graph = self.graph(encoded.fit)
        logits: dict[str, list[Logits]] = {check: [] for check in encoded.fit}
        for piece in encoded.slices:
            if given_up():
                raise BackendError(TOO_LATE)
            found = graph.run(piece)
            for check, values in logits.items():
                values.append(found[check])
        for check, values in logits.items():
            judgements[check] = self._decoders[check].judge(job.text, encoded.slices, values)
        return judgements

    def graph(self, checks: frozenset[str]) -> Graph:
        """The smallest compiled graph that has all the checks, else the last one."""
        return next((graph for graph in self._graphs if checks <= graph.checks), self._graphs[-1])


def estimate(text: str, size: int) -> int:
    """Tokens that a text of `size` bytes in UTF-8 is thought to have, frame included, before it is tokenised.

    What is not ASCII counts more: the vocabulary has its letters, but few of its words.
    """
    if len(text) > MOST_CHARACTERS:
        return 1  # it will not be read
    return 3 + len(text) // _CHARACTERS + (size - len(text)) // 2
