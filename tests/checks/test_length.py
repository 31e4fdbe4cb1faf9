"""Length limits on whole texts, and token counts that neither download nor fail."""

from __future__ import annotations

import base64
import hashlib
import socket
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guardproxy.checks.length import Length
from guardproxy.checks.options import OptionReader
from guardproxy.checks.tokens import _PUBLISHED, SLICE, TokenCounter, _encoding, estimate
from guardproxy.errors import PolicyError
from guardproxy.types import Finding, Scope, Segment

MERGES = [b"th", b"the", b" the", b"in", b"ing", b"<|", b"en", b"end", b"\xc3\xa9"]


def segment(text: str) -> Segment:
    return Segment("messages.0", ("messages", 0, "content"), "user", Scope.PROMPT, text)


def counter(**options: Any) -> TokenCounter:
    return TokenCounter.from_options(OptionReader(options, "checks.length", ("encoding", "encoding_file")))


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a connection was attempted")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.delenv("TIKTOKEN_CACHE_DIR", raising=False)


@pytest.fixture
def ranks(tmp_path: Path) -> Path:
    tokens = [bytes([byte]) for byte in range(256)] + MERGES
    path = tmp_path / "small.tiktoken"
    path.write_bytes(b"".join(base64.b64encode(token) + b" %d\n" % rank for rank, token in enumerate(tokens)))
    return path


def test_characters() -> None:
    check = Length({"max_characters": 5})
    assert check.whole
    assert check.find_whole(segment("12345")) == ()
    assert check.find_whole(segment("123456")) == (Finding("too_long", 5, 6, 1.0),)
    assert check.find_whole(segment("")) == ()


def test_exact_tokens_from_a_file(ranks: Path) -> None:
    exact = counter(encoding_file=str(ranks))
    assert exact.exact
    assert exact.method == "o200k_base"
    assert exact.count("the thing") == 1 + 3  # the | " ", th, ing
    assert exact.count("the the") == 2
    check = Length({"max_tokens": 3, "encoding_file": str(ranks)})
    assert check.version == "1+o200k_base"
    assert check.find_whole(segment("the the the")) == ()
    assert check.find_whole(segment("the the the the the")) == (Finding("too_long", 11, 19, 1.0),)


@pytest.mark.parametrize("encoding", ["o200k_base", "cl100k_base"])
def test_splits_as_the_encoding_does(ranks: Path, encoding: str) -> None:
    exact = counter(encoding_file=str(ranks), encoding=encoding)
    # " the" is one token only where the split leaves the space with the word, as both encodings do.
    assert exact.count(" the") == 1
    assert exact.count("  the") == 2
    assert exact.count("123the") == 4


def test_what_looks_like_a_special_token_is_text(ranks: Path) -> None:
    assert counter(encoding_file=str(ranks)).count("<|endoftext|>") == len(["<|", "end", *"oftext|>"])


def test_an_accented_letter_at_the_limit_is_not_torn(ranks: Path) -> None:
    exact = counter(encoding_file=str(ranks))
    assert exact.passes_at("aé€b", 2) == 2
    assert exact.passes_at("aé€b", 3) == 2  # one byte of three of the euro sign


def test_the_stricter_limit_decides() -> None:
    text = segment("word " * 100)
    both = Length({"max_characters": 50, "max_tokens": 5}).find_whole(text)
    assert both[0].start < 50
    assert Length({"max_characters": 50, "max_tokens": 500}).find_whole(text)[0].start == 50


def test_the_cache_is_used_where_the_file_is_there(
    ranks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published = _PUBLISHED["o200k_base"]
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    assert not counter().exact  # an empty folder triggers no download
    cached = tmp_path / hashlib.sha1(published.url.encode()).hexdigest()
    cached.write_bytes(ranks.read_bytes())
    assert not counter().exact  # not the file that the encoding's hash promises
    assert cached.exists()
    digest = hashlib.sha256(ranks.read_bytes()).hexdigest()
    monkeypatch.setitem(_PUBLISHED, "o200k_base", type(published)(published.split, published.url, digest))
    assert counter().exact


def test_without_ranks_the_count_is_an_estimate() -> None:
    check = Length({"max_tokens": 100})
    assert check.version == "1+estimate"
    assert check.find_whole(segment("hello " * 90)) == ()
    (finding,) = check.find_whole(segment("hello " * 300))
    assert 90 * 6 <= finding.start <= 110 * 6


# Exact counts by the published encodings: o200k, cl100k.
COUNTED = [
    (
        "The invoice was settled late, because the accounting department had not received the signed order in time.",
        19,
        19,
    ),
    ("Die Rechnung wurde verspätet beglichen, weil die unterschriebene Bestellung nicht rechtzeitig eintraf.", 22, 27),
    ("La facture a été réglée en retard, car le bon de commande signé n'était pas arrivé à temps.", 22, 26),
    ("Счёт был оплачен с опозданием, потому что подписанный заказ не пришёл вовремя.", 24, 34),
    ("发票付款延迟，因为签字的订单没有及时送达。", 15, 21),
    ("請求書の支払いが遅れたのは、署名済みの注文書が届かなかったからです。", 28, 41),
    ("서명된 주문서가 제때 도착하지 않아 송장 결제가 늦어졌습니다.", 22, 32),
    ("تأخر سداد الفاتورة لأن أمر الشراء الموقع لم يصل في الوقت المناسب.", 19, 41),
    ("चालान का भुगतान देर से हुआ क्योंकि हस्ताक्षरित आदेश समय पर नहीं पहुँचा।", 20, 71),
    ("ใบแจ้งหนี้ชำระล่าช้าเพราะใบสั่งซื้อที่ลงนามแล้วมาไม่ทันเวลา", 27, 55),
    (
        "def settle(invoice: Invoice, *, late: bool = False) -> None:\n"
        "    if invoice.total > 0 and not late:\n        ledger[invoice.key] = invoice.total\n",
        37,
        38,
    ),
    (
        '{"invoice": {"id": 48213, "lines": [{"sku": "AB-77", "amount": 12.5}, {"sku": "AB-78", "amount": 0.75}]}}',
        46,
        46,
    ),
    ("4821390557 3310982 77120934 5 6 7 8 9 10 11", 26, 26),
    ("!?#$%&/()=*+~{}[]<>|^_@;:,.-", 20, 18),
    ("😀🎉🔥👍🚀😀🎉🔥👍🚀", 14, 28),
    ("qzxvkjwpyfbgmdlqzxvkjwpyfbgmdl", 18, 18),
    ("Ankara imecheleweshwa kulipwa kwa sababu agizo halikufika kwa wakati.", 21, 28),
]


@pytest.mark.parametrize(("text", "o200k", "cl100k"), COUNTED)
def test_the_estimate_leans_upwards_and_never_undercounts_badly(text: str, o200k: int, cl100k: int) -> None:
    assert 0.8 <= estimate(text, "o200k_base") / o200k <= 2.2
    assert 0.6 <= estimate(text, "cl100k_base") / cl100k <= 2.2


@settings(max_examples=80, deadline=None)
@given(st.text(max_size=80), st.integers(0, 60))
def test_estimates_never_exceed_bytes_and_limits_are_kept(text: str, limit: int) -> None:
    assert estimate(text) <= len(text.encode(errors="surrogatepass"))
    at = TokenCounter().passes_at(text, limit)
    if at is None:
        assert estimate(text) <= limit
    else:
        assert estimate(text) > limit
        assert 0 <= at < len(text)
        assert estimate(text[:at]) <= max(limit, 1)


@settings(max_examples=40, deadline=None)
@given(text=st.text(max_size=60))
def test_counting_never_raises(text: str) -> None:
    tokens = [base64.b64encode(bytes([byte])) + b" %d\n" % byte for byte in range(256)]
    exact = TokenCounter(_encoding("cl100k_base", b"".join(tokens)), "cl100k_base")
    assert exact.count(text) >= len(text)
    assert exact.count("\ud800") > 0


def test_long_texts_are_counted_in_slices_in_linear_time(ranks: Path) -> None:
    exact = counter(encoding_file=str(ranks))
    assert abs(exact.count("the " * 10_000) - 20_000) < 40_000 / SLICE + 2 + 10_000
    times = []
    for size in (50_000, 200_000):
        before = time.thread_time()
        exact.count("t" * size)
        times.append(time.thread_time() - before)
    assert times[1] < times[0] * 10


def test_short_texts_are_not_tokenised() -> None:
    class Never:
        def encode_ordinary(self, text: str) -> list[int]:
            raise AssertionError("tokenised")

    assert TokenCounter(Never()).passes_at("é" * 100, 200) is None
    assert TokenCounter(Never()).passes_at("a" * 200, 200) is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "checks.length: write max_characters, max_tokens or both"),
        ({"max_token": 5}, "checks.length.max_token: unknown option; did you mean max_tokens?"),
        ({"max_tokens": 0}, "checks.length.max_tokens: expected a whole number from 1 on"),
        ({"max_tokens": True}, "checks.length.max_tokens: expected a whole number, not true or false"),
        ({"max_tokens": "8k"}, "checks.length.max_tokens: expected a whole number, not a string"),
        ({"max_characters": 1.5}, "checks.length.max_characters: expected a whole number"),
        (
            {"max_tokens": 5, "encoding": "o200k"},
            "checks.length.encoding: expected one of o200k_base, cl100k_base; did you",
        ),
        ({"max_tokens": 5, "encoding_file": "/nonexistent"}, "checks.length.encoding_file: no such file"),
        ({"max_characters": 5, "encoding": "o200k_base"}, "checks.length.encoding: says nothing without max_tokens"),
    ],
)
def test_mistakes_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(PolicyError) as caught:
        Length(options)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "lacks some single bytes"),
        (b"<html>no</html>\n", "line 1: expected a token"),
        (b"YQ== x\n", "line 1: expected a token"),
        (b"".join(base64.b64encode(bytes([b])) + b" 7\n" for b in range(256)), "ranks must be different"),
    ],
)
def test_a_file_that_holds_no_ranks_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "ranks"
    path.write_bytes(content)
    with pytest.raises(PolicyError, match=message):
        Length({"max_tokens": 5, "encoding_file": str(path)})
