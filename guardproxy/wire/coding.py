"""Content codings, undone within a bound: a small body that grows into a large one is refused before it has grown."""

from __future__ import annotations

import zlib

from guardproxy.errors import WireError

KNOWN = frozenset({"", "identity", "gzip", "x-gzip", "deflate"})
_GZIP = 16 + zlib.MAX_WBITS
MEMBERS = 64  # of one gzip body; each costs a copy of what follows it, so many small ones would cost quadratic time


class Decoder:
    """Undoes one content coding, piece by piece. Raises WireError with the given code for what is not that coding.

    `limit`: bytes of output in all. Gzip may have several members; deflate may come with or without its zlib header.
    """

    def __init__(self, coding: str, limit: int, *, code: str = "bad_content_encoding", status: int = 400) -> None:
        self._coding = coding.strip().lower()
        self._left = limit
        self._code, self._status = code, status
        if self._coding not in KNOWN:
            raise WireError(
                "this content encoding is not supported", code=code, status=415 if status == 400 else status
            )
        self._identity = self._coding in {"", "identity"}
        self._inflate = None if self._identity else self._start(b"")
        self._fed = False
        self._members = 1

    def _start(self, head: bytes) -> zlib._Decompress:
        if self._coding != "deflate":
            return zlib.decompressobj(_GZIP)
        # A zlib header is a multiple of 31; without it the data are raw deflate.
        headed = len(head) < 2 or (int.from_bytes(head[:2], "big") % 31 == 0 and head[0] & 15 == 8)
        return zlib.decompressobj(zlib.MAX_WBITS if headed else -zlib.MAX_WBITS)

    def feed(self, data: bytes) -> bytes:
        """The plain bytes behind `data`. Raises WireError beyond the limit, with status 413 for a request."""
        if self._inflate is None:
            self._take(len(data))
            return data
        if data and not self._fed:
            self._fed = True
            self._inflate = self._start(data)
        out: list[bytes] = []
        while data:
            if self._inflate.eof:
                self._members += 1
                if self._members > MEMBERS:
                    raise WireError("the body has too many members", code=self._code, status=self._status)
                self._inflate = self._start(data)
            try:
                piece = self._inflate.decompress(data, min(self._left + 1, 1 << 20))
            except zlib.error:
                raise WireError(
                    "the body is not in its content encoding", code=self._code, status=self._status
                ) from None
            self._take(len(piece))
            out.append(piece)
            data = self._inflate.unused_data if self._inflate.eof else self._inflate.unconsumed_tail
        return b"".join(out)

    def finish(self) -> None:
        """Raises WireError if the coded data broke off."""
        if self._inflate is not None and self._fed and not self._inflate.eof:
            raise WireError("the body broke off", code=self._code, status=self._status)

    def _take(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            status = 413 if self._status == 400 else self._status
            raise WireError("the body is too large", code="body_too_large", status=status)


def decode(data: bytes, coding: str, limit: int, *, code: str = "bad_content_encoding", status: int = 400) -> bytes:
    """All of `data`, plain. Codings can be listed, outermost last."""
    for each in reversed(coding.split(",")):
        decoder = Decoder(each, limit, code=code, status=status)
        data = decoder.feed(data)
        decoder.finish()
    return data
