"""Reads the host out of a URL's authority the way the most lenient client would, and tells what is odd about it.

Host names are compared in Unicode, in lower case, without a trailing dot, after undoing percent escapes, full-width
letters, punycode and defanging ([.]): whatever a browser or a reader takes for the same host is the same host here.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from urllib.parse import unquote

from guardproxy.checks.folding import fold
from guardproxy.checks.scripts import CYRILLIC, GREEK, HAN, HANGUL, KANA, LATIN, scripts
from guardproxy.normalise import normalise

_DOTS = (("[.]", "."), ("(.)", "."), ("[dot]", "."), ("(dot)", "."), ("。", "."), ("｡", "."), ("．", "."), ("[:]", ":"))
_HARMLESS_MIXES = ({LATIN, HAN, KANA}, {LATIN, HAN, HANGUL})
# Second-level labels under which names are registered, in country domains (co.uk, com.au, ...).
_SECOND_LEVEL = frozenset(("co", "com", "org", "net", "ac", "gov", "edu", "or", "ne", "go", "gob", "gouv"))
_DIGITS = str.maketrans("013457", "oleast")
_LONGEST = 255  # characters of a host name in DNS; of longer ones only the end is read
_SHORTEST_NAME = 4  # shorter names are one edit away from too much


@dataclass(frozen=True, slots=True)
class Authority:
    """What stands between a URL's slashes and its path. `host` is "" where there is none worth the name."""

    userinfo: str
    host: str


def parse_authority(raw: str) -> Authority:
    """Splits and normalises an authority such as "user:pw@EXAMPLE.com:443". Never raises."""
    text = unquote(raw) if "%" in raw else raw
    if not text.isascii():
        text = unicodedata.normalize("NFKC", "".join(c for c in text if unicodedata.category(c) != "Cf"))
    text = text.lower()
    for odd, dot in _DOTS:
        text = text.replace(odd, dot)
    userinfo, _, rest = text.rpartition("@")
    if rest.startswith("["):
        return Authority(userinfo, rest.partition("]")[0] + "]")
    host = rest
    for place, char in enumerate(rest):
        if not (char.isalnum() or char in "-._" or unicodedata.category(char)[0] == "M"):
            host = rest[:place]
            break
    host = host.strip("._-")[-_LONGEST:]
    return Authority(userinfo, ".".join(_unicode(label) for label in host.split(".")))


def _unicode(label: str) -> str:
    if not label.startswith("xn--") or not label.isascii():
        return label
    try:
        return label[4:].encode().decode("punycode").lower()
    except (UnicodeError, ValueError, OverflowError):
        return label


def is_ip(host: str) -> bool:
    """Whether a client would take the host for an address: IPv6 in brackets, or IPv4 in any of inet_aton's forms."""
    if host.startswith("["):
        return True
    parts = host.split(".")
    return len(parts) <= 4 and all(map(_is_number, parts))


def _is_number(part: str) -> bool:
    digits, base = (part[2:] or "0", 16) if part.startswith("0x") else (part, 10)
    try:
        return digits.isascii() and digits.isalnum() and int(digits, base) >= 0
    except ValueError:
        return False


class HostList:
    """Hosts of a policy.

    "example.com" is that host, with all below it if `below`; "*.example.com" only what is below.
    """

    __slots__ = ("_below", "_exact")

    def __init__(self, entries: Iterable[str], *, below: bool) -> None:
        """`entries` as `parse_entry` gives them."""
        entries = tuple(entries)
        self._exact = frozenset(entry for entry in entries if not entry.startswith("*."))
        self._below = frozenset(entry[2:] for entry in entries if entry.startswith("*."))
        if below:
            self._below |= self._exact

    def __contains__(self, host: str) -> bool:
        return host in self._exact or any(parent in self._below for parent in _parents(host))


def _parents(host: str) -> Iterator[str]:
    at = host.find(".")
    while at >= 0:
        yield host[at + 1 :]
        at = host.find(".", at + 1)


def parse_entry(written: str) -> str:
    """A host as a policy writes it, normalised, with its "*." if it has one; "" if it is none."""
    star = written.startswith("*.")
    bare = written[2:] if star else written
    if any(char in bare for char in "/*@ "):
        return ""
    host = parse_authority(bare).host
    return f"*.{host}" if star and host else host


def mixed_scripts(host: str) -> float:
    """How sure it is that a label mixes or imitates scripts to deceive: 0 if not, .9 mixed, .7 wholly look-alike."""
    if host.isascii():
        return 0.0
    worst = 0.0
    for label in host.split("."):
        used = set(scripts(label))
        if len(used) > 1 and not any(used <= mix for mix in _HARMLESS_MIXES):
            return 0.9
        if used and used <= {CYRILLIC, GREEK} and len(label) > 2 and skeleton(label).isascii():
            worst = 0.7
    return worst


def skeleton(host: str) -> str:
    """What the host looks like: accents off, look-alike letters and digits as the letters they pass for."""
    if not host.isascii():
        # Look-alikes are replaced next to Latin letters, so it is given one.
        host = normalise(f"a.{host}").text[2:]
    return fold(host).translate(_DIGITS).replace("rn", "m").replace("vv", "w")


@dataclass(frozen=True, slots=True)
class _Domain:
    """The registrable part of a host: its name ("paypal") and all of it ("paypal.com")."""

    name: str
    whole: str

    @property
    def ending(self) -> str:
        return self.whole[len(self.name) :]


def _domain(host: str) -> _Domain:
    labels = host.split(".")
    at = max(len(labels) - 2, 0)
    if at and len(labels[-1]) == 2 and labels[at] in _SECOND_LEVEL:
        at -= 1
    return _Domain(labels[at], ".".join(labels[at:]))


class Lookalikes:
    """Tells hosts that pass for one of the protected ones."""

    __slots__ = ("_domains",)

    def __init__(self, hosts: Iterable[str]) -> None:
        self._domains = tuple({_domain(host.removeprefix("*.")) for host in hosts if not is_ip(host)})

    def __bool__(self) -> bool:
        return bool(self._domains)

    def score(self, host: str, *, certain: bool) -> float:
        """How much `host` passes for a protected one, 0 to 1; 0 for the protected and what is below them.

        `certain`: it is surely a host, as it stands in a URL. Else it may be a file name, and must have the same
        ending.
        """
        own = _domain(host)
        if any(own.whole == domain.whole for domain in self._domains):
            return 0.0
        return max((_likeness(host, own, domain, certain) for domain in self._domains), default=0.0)


def _likeness(host: str, own: _Domain, other: _Domain, certain: bool) -> float:
    if f".{other.whole}." in f".{host}.":
        return 0.95  # paypal.com.evil.example
    seen, name = skeleton(own.name), skeleton(other.name)
    same_ending = skeleton(own.ending) == skeleton(other.ending)
    if len(name) < _SHORTEST_NAME:
        return 1.0 if seen == name and same_ending else 0.0
    if seen == name and own.name != other.name:
        return 1.0 if same_ending else 0.9 * certain  # paypa1.com, paypa1.xyz
    if own.name == other.name and _one_edit(own.ending, other.ending):
        return 0.8 * certain  # paypal.co
    if not (certain or same_ending):
        return 0.0
    if own.name != other.name and _one_edit(own.name, other.name):
        return 0.8 if len(name) > _SHORTEST_NAME else 0.6  # paypall.com
    if name in seen.split("-"):
        return 0.6 if seen != name else 0.0  # paypal-login.com
    return _in_front(host, own, name) * certain


def _in_front(host: str, own: _Domain, name: str) -> float:
    """paypal.evil.example, paypal-com.evil.example"""
    front = host[: len(host) - len(own.whole)]
    return 0.6 if any(name in skeleton(label).split("-") for label in front.split(".") if label) else 0.0


def _one_edit(one: str, other: str) -> bool:
    """Whether one insertion, deletion, substitution or swap of neighbours makes `one` of `other` (Damerau)."""
    if one == other or abs(len(one) - len(other)) > 1:
        return False
    if len(one) > len(other):
        one, other = other, one
    at = next((place for place, char in enumerate(one) if char != other[place]), len(one))
    if len(one) < len(other):
        return one[at:] == other[at + 1 :]
    swapped = one[at : at + 2] == other[at : at + 2][::-1]
    return one[at + 1 :] == other[at + 1 :] or (swapped and one[at + 2 :] == other[at + 2 :])
