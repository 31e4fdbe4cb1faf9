"""Addresses that the policy denies or does not list, and addresses that pass for others.

- Read are URLs with a scheme (hxxp and backslashes too), links without one (//host in Markdown and HTML), www.x.y,
  and, for denied and look-alike hosts only, bare host names. hosts.py says how a host is read.
- `deny` entries hold for a host and all below it, `allow` entries for that host alone; "*.example.org" is what is below
  example.org. Denied wins over allowed.
- Texts are read as they came and with their disguises off; what either shows is found.
- Without a list of top-level domains a bare name may be a file's, so `only_allowed` is not applied to bare names.
- What a finding covers is the whole URL.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from guardproxy.checks.base import Check, CheckSpec, Options
from guardproxy.checks.folding import sendable
from guardproxy.checks.hosts import (
    Authority,
    HostList,
    Lookalikes,
    is_ip,
    mixed_scripts,
    parse_authority,
    parse_entry,
)
from guardproxy.checks.options import OptionReader
from guardproxy.patterns import PatternSet
from guardproxy.reading import Reading
from guardproxy.types import Finding

DENIED, UNLISTED, LOOKALIKE = "denied_url", "unlisted_url", "lookalike_url"
IP, CREDENTIALS, PUNYCODE = "ip_url", "credentials_url", "punycode_url"

_DOT = r"(?:[.。．｡]|\[\.\]|\(\.\)|[\[(]dot[\])])"
_LABEL = r"[\pL\pN\pM_\-\x{AD}\x{200B}-\x{200D}\x{2060}%]+"
_AUTHORITY = r"""((?:[^\s\p{Z}/\\?#<>"'`,;|{}^()\x00-\x1f]|\(\.\)|\(dot\))+)"""
_PATTERNS = (
    # Clients take any number of slashes, of either kind, behind these schemes.
    rf"(?i)h(?:tt|xx)ps?(?::|\[:\])[/\\]*{_AUTHORITY}",
    rf"(?i)[a-z][a-z0-9+.\-]{{1,14}}:(?://|\\\\){_AUTHORITY}",
    rf"""(?i)[(="'<]\s*(?://|\\\\){_AUTHORITY}""",
    rf"(?i)(www\d?{_DOT}{_LABEL}(?:{_DOT}{_LABEL})*)",
)
_BARE = rf"(?i)({_LABEL}(?:{_DOT}{_LABEL})*(?:\.[\pL%][\pL\pN\pM\-%]+|{_DOT}[a-z%][a-z0-9\-%]+))"
_BARE_NUMBER = len(_PATTERNS)
_REST = re.compile(r"""[^\s<>"'`|{}^)\]]{0,2048}""")
_UNTIL_PATH = re.compile(r"""[^\s<>"'`|{}^)\]/?#]{0,256}""")
_NEAR = 32  # longer than any scheme with its slashes


class Url(Check):
    """Finds URLs by their hosts."""

    name = "url"
    labels = frozenset({DENIED, UNLISTED, LOOKALIKE, IP, CREDENTIALS, PUNYCODE})

    def __init__(self, options: Options) -> None:
        """`allow`, `deny`, `lookalikes_of`: lists of hosts; `only_allowed`: hosts not in `allow` are findings.

        Look-alikes of allowed hosts are found too. Raises PolicyError.
        """
        reader = OptionReader(options, "checks.url", ("allow", "deny", "only_allowed", "lookalikes_of"))
        allow, deny = _entries(reader, "allow"), _entries(reader, "deny")
        self._allowed = HostList(allow, below=False)
        self._denied = HostList(deny, below=True)
        self._protected = Lookalikes([*_entries(reader, "lookalikes_of"), *allow])
        self._only_allowed = reader.flag("only_allowed", False)
        if self._only_allowed and not allow:
            raise reader.fail("only_allowed", "needs hosts in allow")
        bare = (_BARE,) if deny or self._protected else ()
        self._set = PatternSet((*_PATTERNS, *bare))

    def clean(self, reading: Reading) -> bool:
        """No pattern needs anything around an address, so what has none has none in its parts."""
        plain = reading.plain
        return not self._set.hits(plain) and (plain is reading.text or not self._set.hits(sendable(reading.text)))

    def find(self, reading: Reading) -> Sequence[Finding]:
        """Findings over whole URLs; one URL may have several. Linear in the text."""
        text, plain = reading.text, reading.plain
        places = [(label, *reading.original(start, end), score) for label, start, end, score in self._search(plain)]
        if plain is not text:
            places += self._search(sendable(text))
        found: dict[tuple[str, int, int], float] = {}
        for label, start, end, score in places:
            found[label, start, end] = max(score, found.get((label, start, end), 0.0))
        return [
            Finding(label, start, end, score)
            for (label, start, end), score in sorted(
                found.items(), key=lambda item: (item[0][1], item[0][2], item[0][0])
            )
        ]

    def _search(self, text: str) -> Iterator[tuple[str, int, int, float]]:
        seen = bytearray(len(text))  # 1 where a pattern before has read a host already
        for number in self._set.hits(text):
            bare = number == _BARE_NUMBER
            for start, end in self._set.spans(number, text):
                if seen[end - 1] or (bare and text[start - 1 : start] == "@"):
                    continue
                seen[start:end] = b"\1" * (end - start)
                first, last = (start, end) if bare else (_beginning(text, start), _ending(text, end))
                for authority in _readings(text, start, end):
                    for label, score in self._judge(authority, certain=not bare):
                        yield label, first, last, score

    def _judge(self, authority: Authority, *, certain: bool) -> Iterator[tuple[str, float]]:
        host = authority.host
        if certain and authority.userinfo:
            yield from _credentials(authority.userinfo)
        if not host:
            return
        if host in self._denied:
            yield DENIED, 1.0
        elif host in self._allowed:
            return
        if certain and self._only_allowed:
            yield UNLISTED, 1.0
        if is_ip(host):
            if certain:
                yield IP, 1.0
            return
        likeness = self._protected.score(host, certain=certain)
        if likeness:
            yield LOOKALIKE, likeness
        if certain and (mixed := mixed_scripts(host)):
            yield PUNYCODE, mixed


def _entries(reader: OptionReader, name: str) -> list[str]:
    entries = []
    for number, written in enumerate(reader.strings(name), 1):
        entry = parse_entry(written.strip())
        if not entry:
            raise reader.fail(
                name, f"entry {number}: expected a host such as example.com or *.example.com, without a path"
            )
        entries.append(entry)
    return entries


def _credentials(userinfo: str) -> Iterator[tuple[str, float]]:
    """A password, or a user name that looks like a host, is meant to leak or to mislead; a name alone may be honest."""
    name, colon, password = userinfo.partition(":")
    if (colon and password) or "." in name or "/" in name:
        yield CREDENTIALS, 1.0
    elif name not in ("git", "hg", "svn"):
        yield CREDENTIALS, 0.6


def _readings(text: str, start: int, end: int) -> Iterator[Authority]:
    """The authority as browsers read it, and, where a backslash parts it from an @, as other parsers do."""
    yield parse_authority(text[start:end])
    if text[end : end + 1] == "\\":
        stop = _end_of(_UNTIL_PATH, text, end + 1)
        if "@" in text[end:stop]:
            yield parse_authority(text[start:stop].replace("\\", "/"))


def _beginning(text: str, start: int) -> int:
    """Where the URL begins whose authority begins at `start`."""
    at = start
    while at > 0 and start - at < _NEAR and text[at - 1] in "/\\":
        at -= 1
    for colon in ("[:]", ":"):
        if text.endswith(colon, max(at - 3, 0), at):
            at -= len(colon)
            while (
                at > 0
                and start - at < _NEAR
                and text[at - 1].isascii()
                and (text[at - 1].isalnum() or text[at - 1] in "+.-")
            ):
                at -= 1
            break
    return at


def _ending(text: str, end: int) -> int:
    """Where the URL ends whose authority does at `end`: before white space, a bracket or a quote; never with a stop."""
    at = _end_of(_REST, text, end)
    while at > end and text[at - 1] in ".,;:!?*_":
        at -= 1
    return at


def _end_of(pattern: re.Pattern[str], text: str, start: int) -> int:
    match = pattern.match(text, start)
    return match.end() if match else start


SPEC = CheckSpec(
    name="url",
    summary="links to hosts that are denied, not listed, raw addresses or look-alikes",
    labels=Url.labels,
    build=Url,
)
