"""Judgements remembered by what was judged: the same text of the same tenant in the same role costs no second pass.

A conversation comes again with every turn, and only its new messages are new. Nothing of a text is kept: its key is a
hash (BLAKE2b) under a random key that this process alone has, over everything that a judgement depends on, and over
whose text it is, so that no tenant can tell from the speed of an answer what another one sent.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Collection, Mapping
from hashlib import blake2b

from guardproxy.backends.onnx.decode import Judgement

ENTRIES = 8192
LONGEST = 16_384  # characters; a longer text is not looked up
_FINDINGS = 8  # findings that weigh as much as an entry, so that memory is bounded however many a text has

Judgements = Mapping[str, Judgement]
"""By check."""


class Cache:
    """The least recently used go first. Not thread-safe: for the event loop alone.

    `hits` and `misses` count lookups.
    """

    def __init__(self, digest: str, entries: int = ENTRIES) -> None:
        """`digest`: the release's; `entries`: how many texts without findings fit in, 0 for none."""
        self._key = secrets.token_bytes(32)
        self._digest = digest
        self._entries = entries
        self._weight = 0
        self._kept: OrderedDict[bytes, Judgements] = OrderedDict()
        self.hits = self.misses = 0

    def __len__(self) -> int:
        return len(self._kept)

    def key(self, tenant: str, role: str, checks: Collection[str], text: str) -> bytes:
        """What the judgement of a text is kept under; empty, which is never kept, for one that is too long."""
        if len(text) > LONGEST or not self._entries:
            return b""
        digest = blake2b(key=self._key, digest_size=16)
        for part in (tenant, role, self._digest, *sorted(checks), "", text):
            data = part.encode("utf-8", "surrogatepass")
            digest.update(len(data).to_bytes(8, "big"))  # so that no two lists of parts read alike
            digest.update(data)
        return digest.digest()

    def get(self, key: bytes) -> Judgements | None:
        """What is known of a text."""
        found = self._kept.get(key)
        if found is None:
            self.misses += 1
            return None
        self.hits += 1
        self._kept.move_to_end(key)
        return found

    def put(self, key: bytes, judgements: Judgements) -> None:
        """Remembers a text's judgements by all the checks that the key is for."""
        if not key or _weight(judgements) > self._entries:
            return
        before = self._kept.pop(key, None)
        self._weight += _weight(judgements) - (_weight(before) if before is not None else 0)
        self._kept[key] = judgements
        while self._weight > self._entries:
            _, oldest = self._kept.popitem(last=False)
            self._weight -= _weight(oldest)


def _weight(judgements: Judgements) -> int:
    return 1 + sum(len(each.findings) for each in judgements.values()) // _FINDINGS
