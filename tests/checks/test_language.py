"""Languages that the policy does not allow, and what must not be taken for one."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from guardproxy.checks.base import Abstain
from guardproxy.checks.language import _STRETCH, Language, _stretches
from guardproxy.errors import PolicyError
from guardproxy.reading import Reading
from guardproxy.types import Scope, Segment, Window

ENGLISH = "The invoice was settled late because our accounting department had not received the signed order in time. "
GERMAN = "Die Rechnung wurde verspätet beglichen, weil die unterschriebene Bestellung nicht rechtzeitig eintraf. "
FRENCH = "La facture a été réglée en retard, car le bon de commande signé n'était pas encore arrivé chez nous. "
DANISH = "Fakturaen blev betalt for sent, fordi vores bogholderi ikke havde modtaget den underskrevne ordre i tide. "
RUSSIAN = "Счёт был оплачен с опозданием, потому что подписанный заказ не пришёл вовремя в бухгалтерию. "
AMHARIC = "ስለዚህ ጉዳይ ምንም የማውቀው ነገር የለም ግን እሞክራለሁ ስለዚህ ጉዳይ ምንም የማውቀው ነገር የለም"
CHINESE = "发票付款延迟，因为签字的订单没有及时送达我们的财务部门。"


def reading(text: str, own: int = 0) -> Reading:
    """A window over the text, of which the first `own` characters are context."""
    segment = Segment("messages.0", ("messages", 0, "content"), "user", Scope.PROMPT, text)
    return Reading(Window(segment, 0, own, len(text), len(text), text))


@pytest.fixture(scope="module")
def english() -> Language:
    return Language({"allowed": ["en"]})


def worst(check: Language, text: str) -> float:
    return max((finding.score for finding in check.find(reading(text))), default=0.0)


@pytest.mark.parametrize(
    "text",
    [GERMAN, FRENCH, DANISH, RUSSIAN, AMHARIC, CHINESE, "चालान का भुगतान देर से हुआ क्योंकि हस्ताक्षरित आदेश समय पर नहीं पहुँचा।"],
)
def test_other_languages_are_found(english: Language, text: str) -> None:
    (finding,) = english.find(reading(text))
    assert (finding.label, finding.start, finding.end) == ("unsupported_language", 0, len(text))
    assert finding.score > 0.7


def test_allowed_languages_are_not() -> None:
    check = Language({"allowed": ["en", "DE", "zh"]})
    for text in (ENGLISH, GERMAN, CHINESE, ENGLISH + GERMAN * 5):
        assert check.find(reading(text)) == []
    assert worst(check, FRENCH) > 0.7


def test_norwegian_by_its_common_code() -> None:
    check = Language({"allowed": ["no", "da"], "candidates": ["en", "sv"]})
    assert check.find(reading(DANISH)) == []
    assert worst(check, ENGLISH) > 0.7


@pytest.mark.parametrize(
    "text",
    [
        "Guten Tag, wie geht es?",
        "1234 5678 9012 3456 7890 1234 5678 9012 3456 7890",
        "https://beispiel.example/die/rechnung/wurde/verspaetet/beglichen/weil/die/bestellung",
        "def rechne(betrag, satz):\n    summe = betrag * (1 + satz)\n    return runde(summe, stellen=2)\n" * 2,
        '{"betrag": 12, "waehrung": "EUR", "kunde": {"name": "x", "nummer": 17}, "posten": [1, 2, 3]}',
        "SGVsbG8gd29ybGQgdGhpcyBpcyBhIHRlc3Qgb2YgYmFzZTY0IGVuY29kaW5n",
        "",
        "!!! ??? ... --- *** !!! ??? ... --- *** !!! ??? ... --- ***",
    ],
)
def test_short_texts_numbers_addresses_and_code_have_no_language(english: Language, text: str) -> None:
    assert list(english.find(reading(text))) == []


def test_short_texts_are_told_at_a_glance(english: Language) -> None:
    assert english.clean(reading("Wie geht es dir heute?"))
    assert not english.clean(reading(GERMAN))
    assert not english.clean(reading(CHINESE))
    assert not english.clean(reading(ENGLISH))  # may have a part in another language


def test_a_long_preamble_does_not_hide_what_follows(english: Language) -> None:
    text = ENGLISH * 8 + "\n" + GERMAN * 3
    findings = english.find(reading(text))
    assert findings
    assert min(f.start for f in findings) >= len(ENGLISH) * 8 - _STRETCH
    assert max(f.end for f in findings) == len(text)
    assert max(f.score for f in findings) > 0.7


def test_another_script_shows_in_a_mixed_text(english: Language) -> None:
    assert worst(english, ENGLISH + RUSSIAN) > 0.6
    assert worst(english, ENGLISH + CHINESE * 2) > 0.6
    assert worst(english, ENGLISH * 2 + "He said до свидания and left.") == 0.0


def test_latin_words_do_not_make_a_russian_text_foreign() -> None:
    check = Language({"allowed": ["ru"]})
    assert check.find(reading("Установите Python и запустите сервер Kubernetes в облаке Amazon перед проверкой.")) == []


def test_disguised_letters_do_not_help(english: Language) -> None:
    wide = "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in GERMAN)
    assert worst(english, wide) > 0.7
    assert worst(english, GERMAN.replace("e", "e\u200b")) > 0.7
    assert english.find(reading(ENGLISH.replace("e", "e\u200b"))) == []
    assert worst(english, "\ud800" + GERMAN) > 0.7


def test_context_is_read_only_where_the_window_is_too_short(english: Language) -> None:
    # By itself English, whatever came before.
    assert english.find(reading(GERMAN * 2 + ENGLISH, own=len(GERMAN) * 2)) == []
    (finding,) = english.find(reading(ENGLISH * 2 + GERMAN, own=len(ENGLISH) * 2))
    assert (finding.start, finding.end) == (len(ENGLISH) * 2, len(ENGLISH) * 2 + len(GERMAN))
    tail = "und das war alles."
    assert [f.end for f in english.find(reading(GERMAN + tail, own=len(GERMAN)))] == [len(GERMAN) + len(tail)]


def test_abstains_where_the_detector_has_no_answer(english: Language, monkeypatch: pytest.MonkeyPatch) -> None:
    class Undecided:
        def compute_language_confidence_values(self, text: str) -> list[Any]:
            return []

    class Split:
        def compute_language_confidence_values(self, text: str) -> list[Any]:
            from lingua import Language as Known

            values = ((Known.GERMAN, 0.4), (Known.DUTCH, 0.3), (Known.ENGLISH, 0.3))
            return [type("Value", (), {"language": name, "value": value})() for name, value in values]

    for detector in (Undecided(), Split()):
        monkeypatch.setattr(english, "_detector", detector)
        with pytest.raises(Abstain, match=r"^language unknown$"):
            english.find(reading(ENGLISH))


def test_stretches_cover_the_text_and_are_long_enough() -> None:
    text = (ENGLISH + "\n") * 20 + "short end"
    cuts = list(_stretches(text, 7, 40))
    assert cuts[0][0] == 7
    assert cuts[-1][1] == len(text)
    assert all(one[1] == other[0] for one, other in pairwise(cuts))
    assert all(40 <= end - start <= 2 * _STRETCH for start, end in cuts)


def test_the_time_is_linear(english: Language) -> None:
    times = []
    for size in (10, 40):
        read = reading(ENGLISH * size + "x" * size * 100)
        best = 9.0
        for _ in range(3):
            before = time.thread_time()
            english.find(read)
            best = min(best, time.thread_time() - before)
        times.append(best)
    assert times[1] < times[0] * 10


def test_lingua_is_loaded_with_the_check_and_not_before() -> None:
    program = (
        "import sys; import guardproxy.checks.language as m; assert 'lingua' not in sys.modules;"
        "m.Language({'allowed': ['en'], 'candidates': ['de']}); assert 'lingua' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=Path(__file__).parents[2])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "checks.language.allowed: write at least one language"),
        ({"allowed": []}, "checks.language.allowed: write at least one language"),
        ({"allow": ["en"]}, "checks.language.allow: unknown option; did you mean allowed?"),
        ({"allowed": "en"}, "checks.language.allowed: expected a list of strings"),
        (
            {"allowed": [False]},
            "checks.language.allowed: entry 1: expected a string, not true or false; put it in quotes",
        ),
        ({"allowed": ["en", "english"]}, "checks.language.allowed: entry 2: expected a language by its code"),
        ({"allowed": ["en"], "candidates": ["xx"]}, "checks.language.candidates: entry 1: expected a language"),
        ({"allowed": ["en"], "candidates": ["en"]}, "checks.language.candidates: needs another language"),
        ({"allowed": ["en"], "accuracy": "hi"}, "checks.language.accuracy: expected one of low, high"),
        ({"allowed": ["en"], "min_characters": -1}, "checks.language.min_characters: expected a whole number"),
    ],
)
def test_mistakes_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(PolicyError) as caught:
        Language(options)
    assert str(caught.value).startswith(message)


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "allowed", "least", "most"),
    [
        ("toxic_spans_civil", "en", 0.0, 0.004),
        ("germeval2018", "de", 0.0, 0.008),
        ("germeval2018", "en", 0.90, 1.0),
        ("ailuminate_demo_fr", "en", 0.97, 1.0),
    ],
)
def test_on_labelled_data(name: str, allowed: str, least: float, most: float) -> None:
    path = Path(__file__).parents[2].parent / "shared" / "data" / f"{name}.jsonl"
    if not path.exists():
        pytest.skip("the shared data are not here")
    check = Language({"allowed": [allowed]})
    lines = path.read_text(encoding="utf-8").splitlines()[:400]
    texts = [text for line in lines if len(text := json.loads(line)["text"]) >= 60]

    def foreign(text: str) -> bool:
        try:
            return worst(check, text) >= 0.5
        except Abstain:
            return False

    assert least <= sum(map(foreign, texts)) / len(texts) <= most
