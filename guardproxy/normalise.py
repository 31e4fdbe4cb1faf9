"""Takes the disguises off a text and remembers which original characters stand behind each plain one.

What a model reads without effort must not hide an entity from a pattern: invisible characters, full-width or foreign
digits, styled letters, look-alike letters of another script, escapes. Honest prose in any script keeps its letters:
look-alikes are replaced only in words that mix scripts, or in address-like runs that hold Latin letters. The work is
linear in the text, and doing it twice changes nothing more. Obfuscations in words ("john at example dot com") are for
the patterns.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Plain:
    """A normalised text. `starts[i]` and `ends[i]` bound the original characters behind plain character i.

    Both are empty where every plain character stands at the place of the one original character behind it.
    """

    text: str
    starts: tuple[int, ...] = ()
    ends: tuple[int, ...] = ()

    def original(self, start: int, end: int) -> tuple[int, int]:
        """The stretch [start, end) of the plain text as a stretch of the original."""
        if not self.starts or start >= end:
            return start, end
        return self.starts[start], self.ends[end - 1]


# ASCII that never needs work. What is left after deleting it decides whether a text is looked at more closely.
_ORDINARY = bytes(c for c in range(0x20, 0x7F) if c not in b"\\&%") + b"\t\n\r"

_ENTITIES = {
    "commat": "@", "period": ".", "amp": "&", "lt": "<", "gt": ">", "quot": '"', "apos": "'", "colon": ":", "sol": "/",
    "num": "#", "plus": "+", "lowbar": "_", "hyphen": "-", "dash": "-", "ndash": "-", "mdash": "-", "percnt": "%",
    "equals": "=", "semi": ";", "lpar": "(", "rpar": ")", "bsol": "\\", "dollar": "$", "nbsp": " ", "ensp": " ",
    "emsp": " ", "thinsp": " ", "Tab": "\t", "NewLine": "\n", "shy": "", "zwj": "", "zwnj": "", "NoBreak": "",
}  # fmt: skip
_LONGEST_ENTITY = 10

# Decides only whether the pass over the characters is needed; that pass is the one that decodes.
_ESCAPE = re.compile(
    r"""[\\&%](?:(?<=\\)(?:u[0-9a-fA-F]{4}|u\{[0-9a-fA-F]|x[0-9a-fA-F]{2}|[nrt][^a-z]|["'/\\])"""
    r"""|(?<=&)(?:\#[0-9xX]|[A-Za-z]{2,8};)|(?<=%)[0-7][0-9a-fA-F])"""
)
_TRIGGERS = frozenset("\\&%")
_HEX = frozenset("0123456789abcdefABCDEF")
_SIMPLE = {"n": "\n", "r": "\r", "t": "\t"}

# Letters of other scripts that are read as Latin ones.
_LOOKALIKES = str.maketrans(
    "авеіјкмнорсѕтухԁԛԝһӏАВЕІЈКМНОРСЅТУХԌԚԜҺӀαβεινορτυχκγΑΒΕΖΗΙΚΜΝΟΡΤΥΧϳϹϲ",
    "abeijkmhopcstyxdqwhlABEIJKMHOPCSTYXGQWHIabeivoptuxkyABEZHIKMNOPTYXjCc",
)
_SMALL_CAPITALS = str.maketrans("ᴀʙᴄᴅᴇꜰɢʜɪᴊᴋʟᴍɴᴏᴘʀꜱᴛᴜᴠᴡʏᴢ", "abcdefghijklmnoprstuvwyz")
_QUOTES = str.maketrans("‘’‚‛“”„‟′″«»‹›ʼ", "''''\"\"\"\"'\"\"\"'''")
_LOOKALIKE_LETTERS = frozenset(map(chr, _LOOKALIKES))
_MARKS = "\u0300-\u036f\u0483-\u0487"  # those of Latin, Greek and Cyrillic; they do not end a word
_ADDRESS_LIKE = re.compile(rf"[\w@.+\-{_MARKS}]+")
_WORD = re.compile(rf"(?:[^\W\d_]|[{_MARKS}])+")
_A_MARK = re.compile(f"[{_MARKS}]")
_LATIN_LETTER = re.compile(r"[A-Za-z]")
_IDEOGRAPHIC_STOP = "。"

# Invisible without being in category Cf, or in a category that prose needs.
_INVISIBLE = frozenset(
    "\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0\u180b\u180c\u180d\u180f"
    + "".join(map(chr, range(0xFE00, 0xFE10)))
    + "".join(map(chr, range(0xE0100, 0xE01F0)))
)
_ODD_DASHES = frozenset("\u2043\u2212\u02d7\u06d4")
_LATIN_END = 0x250  # below it, a combining mark decorates a Latin letter or an ASCII sign
_CYRILLIC_END = 0x530  # below it, a mark from any other block is decoration too

_REPEATS = 4

_folds: dict[str, str] = {}
_FOLDS_KEPT = 8192  # hostile text must not fill memory with every character there is


def _one(char: str) -> str:
    """What one character, already in NFKC, is read as."""
    if char < "\x80":
        if char in "\t\n\r" or " " <= char <= "~":
            return char
        return " " if char in "\x0b\x0c" else ""
    category = unicodedata.category(char)
    if char in _INVISIBLE or category in ("Cf", "Me") or "\u20d0" <= char <= "\u20ff":
        return ""
    if category == "Nd":
        return str(unicodedata.decimal(char))
    if category == "Pd" or char in _ODD_DASHES:
        return "-"
    if category == "Zs" or char == "\u2800":
        return " "
    if category in ("Zl", "Zp") or char == "\x85":
        return "\n"
    if category == "Cc":
        return ""
    if category == "Cs":
        return "\ufffd"  # a lone surrogate has no UTF-8, and the pattern engine speaks nothing else
    if "\U0001f150" <= char <= "\U0001f169" or "\U0001f170" <= char <= "\U0001f189":
        return chr(ord("A") + (ord(char) - 0x1F150) % 32)
    return char.translate(_QUOTES).translate(_SMALL_CAPITALS)


def _fold(char: str) -> str:
    """What one character is read as, by itself: one character, several (ligatures), or none (invisible)."""
    known = _folds.get(char)
    if known is not None:
        return known
    wide = unicodedata.normalize("NFKC", char)
    if len(wide) > 1 and " " in wide:
        wide = char  # spacing accents and Arabic phrase ligatures read better as they are
    folded = "".join(map(_one, wide))
    if len(_folds) < _FOLDS_KEPT:
        _folds[char] = folded
    return folded


def _is_mark(char: str) -> bool:
    return char > "\x7f" and unicodedata.category(char) == "Mn"


class _Writer:
    """The plain text in the making. An escape is resolved as its last character is written, so none is left at the end.

    Resolving takes at least two characters for each one it writes, hence linear time however escapes are nested.
    """

    __slots__ = ("chars", "ends", "lead", "starts")

    def __init__(self) -> None:
        self.chars: list[str] = []
        self.starts: list[int] = []
        self.ends: list[int] = []
        self.lead: int | None = None  # where invisible characters before the first visible one begin

    def write(self, folded: str, start: int, end: int) -> None:
        """Writes what stands for the original [start, end)."""
        if not folded:
            self.absorb(start, end)
        for char in folded:
            before = ord(self.chars[-1]) if self.chars else _CYRILLIC_END
            if before < _CYRILLIC_END and _is_mark(char) and (before < _LATIN_END or not _A_MARK.match(char)):
                self._accent(char, end)
            else:
                self._append(char, start, end)

    def copy(self, text: str, start: int, end: int) -> None:
        """Writes text[start:end] as it is; the caller knows that nothing in it needs work."""
        if start == end:
            return
        first = len(self.chars)
        self.chars.extend(text[start:end])
        self.starts.extend(range(start, end))
        self.ends.extend(range(start + 1, end + 1))
        if self.lead is not None:
            self.starts[first], self.lead = self.lead, None

    def absorb(self, start: int, end: int) -> None:
        """Gives the original [start, end), of which nothing is seen, to the neighbour."""
        if self.ends:
            self.ends[-1] = end
        elif self.lead is None:
            self.lead = start

    def _accent(self, mark: str, end: int) -> None:
        composed = unicodedata.normalize("NFC", self.chars[-1] + mark)
        if self.chars[-1].isalpha() and len(composed) == 1 and ord(composed) < _LATIN_END:
            self.chars[-1] = composed
        self.ends[-1] = end

    def _append(self, char: str, start: int, end: int) -> None:
        chars = self.chars
        if len(chars) > 1 and chars[-2] == "\\" and not char.islower() and _latin(chars[-1]) in _SIMPLE:
            # `\n` only where no word goes on, so that C:\temp stays legible
            self._replace(2, _SIMPLE[_latin(chars[-1])])
        if not chars and self.lead is not None:
            start, self.lead = self.lead, None
        chars.append(char)
        self.starts.append(start)
        self.ends.append(end)
        found = _escape_at_end(chars)
        if found is not None:
            self._replace(*found)

    def _replace(self, length: int, decoded: str) -> None:
        start, end = self.starts[-length], self.ends[-1]
        del self.chars[-length:], self.starts[-length:], self.ends[-length:]
        self.write("".join(map(_fold, decoded)), start, end)


def _latin(text: str) -> str:
    return text if text.isascii() else text.translate(_LOOKALIKES)


def _escape_at_end(chars: list[str]) -> tuple[int, str] | None:
    """The escape that the last character completes: its length and what it stands for."""
    last = _latin(chars[-1])
    if last in _HEX:
        return _hexadecimal(_latin("".join(chars[-6:])))
    if last == ";":
        return _entity(_latin("".join(chars[-_LONGEST_ENTITY:])))
    if last == "}":
        tail = _latin("".join(chars[-_LONGEST_ENTITY:]))
        at = tail.rfind("\\u{")
        digits = tail[at + 3 : -1]
        return _code_point(len(tail) - at, digits, 16) if at >= 0 and _HEX.issuperset(digits) else None
    if last in "\"'/\\" and chars[-2:-1] == ["\\"]:
        return 2, "\\" if last == "\\" else last
    return None


def _hexadecimal(tail: str) -> tuple[int, str] | None:
    if tail[-3:-2] == "%" and tail[-2] in "01234567" and (tail[-2] > "1" or tail[-2:].lower() in ("09", "0a", "0d")):
        return _code_point(3, tail[-2:], 16)
    if tail[-4:-2] == "\\x" and _HEX.issuperset(tail[-2:]):
        return _code_point(4, tail[-2:], 16)
    if tail[:2] == "\\u" and len(tail) == 6 and _HEX.issuperset(tail[2:]):
        return _code_point(6, tail[2:], 16)
    return None


def _entity(tail: str) -> tuple[int, str] | None:
    at = tail.rfind("&")
    if at < 0:
        return None
    name, length = tail[at + 1 : -1], len(tail) - at
    if name in _ENTITIES:
        return length, _ENTITIES[name]
    if name[:2] in ("#x", "#X") and _HEX.issuperset(name[2:]):
        return _code_point(length, name[2:], 16)
    if name[:1] == "#" and name[1:].isdigit():
        return _code_point(length, name[1:], 10)
    return None


def _code_point(length: int, digits: str, base: int) -> tuple[int, str] | None:
    if not digits:
        return None
    value = int(digits, base)
    return (length, chr(value)) if value < 0x110000 and not 0xD800 <= value < 0xE000 else None


def _latinise(text: str) -> str:
    """The text with look-alike letters replaced where they stand among Latin ones. Keeps the length."""
    if _IDEOGRAPHIC_STOP in text:
        text = re.sub(_STOP_BETWEEN, _dot, text)
    if _LOOKALIKE_LETTERS.isdisjoint(text) or not ("@" in text or _LATIN_LETTER.search(text)):
        return text
    return _ADDRESS_LIKE.sub(_latinise_run, text)


def _dot(match: re.Match[str]) -> str:
    text, at = match.string, match.start()
    before, after = text[at - 1 : at], text[at + 1 : at + 2]
    near = all((c.isascii() and c.isalnum()) or c in _LOOKALIKE_LETTERS for c in (before, after) if c)
    return "." if before and after and near else _IDEOGRAPHIC_STOP


_STOP_BETWEEN = re.compile(_IDEOGRAPHIC_STOP)


def _latinise_run(match: re.Match[str]) -> str:
    run = match[0]
    if run.isascii() or not ("@" in run or _LATIN_LETTER.search(run)):
        return run
    return _WORD.sub(_latinise_word, run)


def _latinise_word(match: re.Match[str]) -> str:
    word = match[0]
    if word.isascii():
        return word
    if _LATIN_LETTER.search(word) or _LOOKALIKE_LETTERS.issuperset(_A_MARK.sub("", word)):
        return word.translate(_LOOKALIKES)
    return word


def _has_escape(text: str) -> bool:
    return ("\\" in text or "&" in text or "%" in text) and _ESCAPE.search(_latin(text)) is not None


def _decorated(text: str, marks: frozenset[str]) -> bool:
    """Whether one of the combining marks stands on something Latin, Greek or Cyrillic."""
    before = "\uffff"
    for char in text:
        if char in marks and ord((_fold(before) or "a")[-1]) < _CYRILLIC_END:
            return True
        before = char
    return False


def normalise(text: str) -> Plain:
    """The text with its disguises off. The very same object, and no maps, where there is nothing to take off."""
    if text.isascii():
        left = text.encode().translate(None, _ORDINARY)
        if not left or (not left.strip(b"\\&%") and not _has_escape(text)):
            return Plain(text)
        return _rewritten(text, set(text))
    present = set(text)
    folds = {char: folded for char in present if (folded := _fold(char)) != char}
    if any(len(folded) != 1 for folded in folds.values()):
        return _rewritten(text, present)
    marks = frozenset(filter(_is_mark, present))
    if marks and _decorated(text, marks):
        return _rewritten(text, present)
    plain = text
    for char, folded in folds.items():
        plain = plain.replace(char, folded)
    if _has_escape(plain):
        return _rewritten(text, present)
    plain = _latinise(plain)
    return Plain(text if plain == text else plain)


def _rewritten(text: str, present: set[str]) -> Plain:
    """The thorough way: character by character where that is needed, with maps."""
    special = {char for char in present if _fold(char) != char or _is_mark(char)}
    writer = _Writer()
    if any(not _TRIGGERS.isdisjoint(_fold(char)) for char in present):
        for at, char in enumerate(text):
            writer.write(_fold(char), at, at + 1)
    else:
        done = 0
        for at, char in enumerate(text):
            if char in special:
                writer.copy(text, done, at)
                writer.write(_fold(char), at, at + 1)
                done = at + 1
        writer.copy(text, done, len(text))
    written = "".join(writer.chars)
    plain = _latinise(written)
    for _ in range(_REPEATS):
        if plain == written or not _A_MARK.search(plain):
            break
        # letters that have just become Latin may carry marks, which now decorate
        again = _Writer()
        for char, start, end in zip(plain, writer.starts, writer.ends, strict=True):
            again.write(char, start, end)
        writer, written = again, "".join(again.chars)
        plain = _latinise(written)
    if plain == text:
        return Plain(text)
    return Plain(plain, tuple(writer.starts), tuple(writer.ends))
