"""Addresses of people and machines on networks: e-mail, also when it is spelled out to hide it, IP and MAC.

The standard library decides what is an IP address. Version numbers are written like one, and small ones without a word
that says "address" score low.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address

from guardproxy.checks.pii.scan import Recogniser, Scan
from guardproxy.types import Finding

_TLD = (
    "com|org|net|edu|gov|mil|int|info|biz|name|io|ai|app|dev|co|me|tv|eu|uk|us|ca|au|nz|ie|de|at|ch|fr|be|nl|lu|es|pt|it"
    "|pl|cz|sk|hu|ro|bg|gr|hr|si|rs|dk|no|se|fi|is|ee|lv|lt|ru|ua|by|tr|il|ae|sa|za|ng|ke|in|pk|bd|cn|hk|tw|jp|kr|sg|my"
    "|id|th|vn|ph|br|mx|ar|cl|pe"
)
_EMAIL = r"[\p{L}\p{N}_][\p{L}\p{N}_.+%'\-]*@(?:[\p{L}\p{N}][\p{L}\p{N}\-]*\.)+(?:xn--[A-Za-z0-9\-]+|\p{L}{2,})"
_LOCAL = r"(?i)\b[\w.+\-]*\w"
_BRACKETED_AT = r"\s*[(\[{<]\s*(?:at|@|arroba|chez)\s*[)\]}>]\s*"
_BRACKETED_DOT = r"\s*[(\[{<]\s*(?:dot|punto|punkt|point|\.)\s*[)\]}>]\s*"
_WORDED_DOT = r"\s+(?:dot|punto|punkt)\s+"
_DOT = rf"(?:{_BRACKETED_DOT}|{_WORDED_DOT}|\.|\s\.\s)"


def _host(dot: str) -> str:
    return rf"[\w\-]+(?:{dot}[\w\-]+)*?{dot}(?:{_TLD})\b"


_BRACKETED = rf"{_LOCAL}(?:{_BRACKETED_AT}{_host(_DOT)}|@{_host(_BRACKETED_DOT)})"
_SPELLED = rf"{_LOCAL}(?:\s+at\s+{_host(_WORDED_DOT)}|\s?@\s+{_host(_DOT)})"

# Scripts written without spaces: an address follows the words before it directly.
_UNSPACED = re.compile(
    r"^.*[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af](?=[\w.+%'-]*[A-Za-z])"
)
_PROSE = frozenset(
    ("the", "a", "an", "this", "that", "my", "our", "your", "his", "her", "its", "their", "look", "is", "are")
)


def _email(scan: Scan, start: int, end: int) -> Iterator[Finding]:
    local, _, domain = scan.text[start:end].rpartition("@")
    match = _UNSPACED.match(local)
    start += match.end() if match else 0
    first = domain.partition(".")[0]
    if re.fullmatch(r"\dx", first) or (first.isdigit() and domain.split(".")[1][:1].isdigit()):
        return  # icon@2x.png, package@1.0.0-rc
    before = scan.text[max(0, start - 80) : start]
    scheme = before.rfind("://")
    score = 0.97
    if scheme >= 0 and not re.search(r"[\s/]", before[scheme + 3 :]):
        score = 0.45 if ":" in before[scheme + 3 :] else 0.6  # the user information of a URL
    elif local == "git" and scan.text[end : end + 1] == ":":
        score = 0.2  # an SSH remote
    yield Finding("EMAIL_ADDRESS", start, end, score)


def _bracketed_email(scan: Scan, start: int, end: int) -> Iterator[Finding]:
    yield Finding("EMAIL_ADDRESS", start, end, 0.9)


def _spelled_email(scan: Scan, start: int, end: int) -> Iterator[Finding]:
    words = scan.text[start:end].lower().replace("@", " at ").split()
    if words[0] not in _PROSE and words[words.index("at") + 1] not in _PROSE:
        yield Finding("EMAIL_ADDRESS", start, end, 0.65)


_IPV4 = r"\b(?:\d{1,3}\.){3}\d{1,3}\b"
_IPV6 = r"(?i)\b[0-9a-f]{1,4}:(?:[0-9a-f]{1,4}:|:)[0-9a-f:.]*|(?:^|[^\w:])(::[0-9a-f][0-9a-f:.]*)"
_VERSION = re.compile(
    r"\b(?:version|ver|v|release|rel|build|firmware|driver|update|upgrad\w* (?:to|from)"
    r"|section|chapter|clause|§|oid)[\s:=.v\"']*$",
    re.IGNORECASE,
)


def _ipv4(scan: Scan, start: int, end: int) -> Iterator[Finding]:
    text = scan.text
    if text[start - 1 : start] == "." or (text[end : end + 1] == "." and text[end + 1 : end + 2].isdigit()):
        return  # five numbers or more
    try:
        address = IPv4Address(text[start:end])
    except ValueError:
        return
    before = text[max(0, start - 20) : start]
    if _VERSION.search(before) or text[start - 1 : start] in ("-", "_") or re.match(r"[-_]\w", text[end : end + 2]):
        score = 0.2
    else:
        score = _ip_score(scan, address, start, end)
    yield Finding("IP_ADDRESS", start, end, score)


def _ip_score(scan: Scan, address: IPv4Address | IPv6Address, start: int, end: int) -> float:
    if address.is_loopback or address.is_unspecified or address.packed == b"\xff\xff\xff\xff":
        return 0.2
    if "IP_ADDRESS" in scan.near(start, end):
        return 0.9
    if address.version == 4 and max(address.packed) < 20:
        return 0.4
    if address.is_multicast or address.is_reserved:
        return 0.4
    return 0.6 if address.is_private else 0.75


def _ipv6(scan: Scan, start: int, end: int) -> Iterator[Finding]:
    value = scan.text[start:end].rstrip(".")
    if value.endswith(":") and not value.endswith("::"):
        value = value[:-1]
    if value.count(":") < 2 or scan.text[start - 1 : start] == ":":
        return
    try:
        address = ip_address(value)
    except ValueError:
        return
    score = _ip_score(scan, address, start, end)
    if sum(char.isalnum() for char in value) < 4:
        score = min(score, 0.3)  # a::b is more often code
    yield Finding("IP_ADDRESS", start, start + len(value), score)


def _mac(scan: Scan, start: int, end: int) -> Iterator[Finding]:
    value = scan.text[start:end].lower()
    if scan.text[start - 1 : start] in (":", "-") or scan.text[end : end + 1] in (":", "-"):
        return
    digits = set(re.sub(r"[^0-9a-f]", "", value))
    yield Finding("MAC_ADDRESS", start, end, 0.2 if len(digits) == 1 else 0.8)


_MAC = r"(?i)\b[0-9a-f]{2}(?:(?::[0-9a-f]{2}){5}|(?:-[0-9a-f]{2}){5})\b|\b[0-9a-f]{4}\.[0-9a-f]{4}\.[0-9a-f]{4}\b"

CONTACT = (
    Recogniser(frozenset({"EMAIL_ADDRESS"}), _EMAIL, _email),
    Recogniser(frozenset({"EMAIL_ADDRESS"}), _SPELLED, _spelled_email),
    Recogniser(frozenset({"EMAIL_ADDRESS"}), _BRACKETED, _bracketed_email),
    Recogniser(frozenset({"IP_ADDRESS"}), _IPV4, _ipv4),
    Recogniser(frozenset({"IP_ADDRESS"}), _IPV6, _ipv6),
    Recogniser(frozenset({"MAC_ADDRESS"}), _MAC, _mac),
)
