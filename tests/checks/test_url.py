"""URLs by their hosts: lists, look-alikes, and every way of writing a host so that a list does not see it."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guardproxy.checks.hosts import Authority, HostList, is_ip, mixed_scripts, parse_authority, skeleton
from guardproxy.checks.url import Url
from guardproxy.errors import PolicyError
from guardproxy.reading import Reading
from guardproxy.types import Finding, Scope, Segment, Window


def reading(text: str) -> Reading:
    segment = Segment("messages.0", ("messages", 0, "content"), "user", Scope.PROMPT, text)
    return Reading(Window(segment, 0, 0, len(text), len(text), text))


def labels(text: str, **options: Any) -> dict[str, float]:
    """The findings' scores by label; fails if find() and clean() contradict each other."""
    check, read = Url(options), reading(text)
    findings = check.find(read)
    assert not (findings and check.clean(read))
    return {finding.label: finding.score for finding in findings}


def test_a_finding_covers_the_whole_url() -> None:
    text = "See (https://Evil.com:443/a?b=c#d), or www.evil.com."
    assert Url({"deny": ["evil.com"]}).find(reading(text)) == [
        Finding("denied_url", 5, 33, 1.0),
        Finding("denied_url", 39, 51, 1.0),
    ]
    assert text[5:33] == "https://Evil.com:443/a?b=c#d"


@pytest.mark.parametrize(
    "text",
    [
        "https://evil.com",
        "HTTPS://EVIL.COM/",
        "https://a.b.evil.com/x",
        "https://evil.com./",
        "https://evil.com:8443/",
        "hxxps://evil[.]com/x",
        "hxxp[:]//evil(.)com",
        "evil[dot]com",
        "https:\\\\evil.com\\x",
        "https:/evil.com",
        "https:evil.com",
        "https:////evil.com",
        "https:\\/\\/evil.com\\/x",
        "https://%65%76il%2Ecom/",
        "https://ev\u200bil.com/",
        "https://ev\u00adil.com/",
        "https://ｅｖｉｌ．ｃｏｍ/",
        "https://evil。com/",
        "https://𝐞𝐯𝐢𝐥.com/",
        "![x](https://evil.com/p.png?q=1)",
        "[x](//evil.com/p)",
        "[x]( <//evil.com/p>)",
        '<img src="//evil.com/p">',
        "<img src=//evil.com/p>",
        "https://good.example@evil.com/",
        "https://good.example\\@evil.com/",
        "https://good.example%40evil.com/",
        "ftp://evil.com/x",
        "www.evil.com",
        "go to evil.com now",
        "https://good.example/?next=https%3A%2F%2Fevil.com",
        "https://good.example,https://evil.com",
        "http://a\ud800 https://evil.com",
    ],
)
def test_denied_hosts_however_they_are_written(text: str) -> None:
    assert labels(text, deny=["evil.com"])["denied_url"] == 1.0


@pytest.mark.parametrize(
    "text",
    [
        "https://notevil.com",
        "https://evil.com.example.org",
        "https://evil.computer",
        "mail me@evil.com",
        "no address here: 1.5 e.g. this",
        "evil .com",
    ],
)
def test_other_hosts_are_not_denied(text: str) -> None:
    assert "denied_url" not in labels(text, deny=["evil.com"])


def test_international_names_are_one_in_both_forms() -> None:
    assert "denied_url" in labels("https://xn--mnchen-3ya.de/", deny=["münchen.de"])
    assert "denied_url" in labels("https://MÜNCHEN.de/", deny=["xn--mnchen-3ya.de"])
    assert labels("https://münchen.de/") == {}


def test_stars_mean_what_is_below() -> None:
    assert "denied_url" not in labels("https://evil.com", deny=["*.evil.com"])
    assert "denied_url" in labels("https://x.evil.com", deny=["*.evil.com"])
    options: dict[str, Any] = {"only_allowed": True, "allow": ["example.com", "*.example.org"]}
    assert labels("https://example.com:443/ https://example.com./ https://a.b.example.org", **options) == {}
    for text in ("https://www.example.com", "https://example.org", "https://other.net", "//x (//other.net/a)"):
        assert labels(text, **options)["unlisted_url"] == 1.0
    # without a scheme, "other.net" and "main.py" are alike
    assert labels("see other.net and main.py", **options) == {}


def test_denied_wins_over_allowed() -> None:
    assert labels("https://a.evil.com", deny=["evil.com"], allow=["a.evil.com"]) == {"denied_url": 1.0}


def test_a_disguised_allowed_host_is_not_the_allowed_host() -> None:
    found = labels("https://exаmple.com", allow=["example.com"], only_allowed=True)
    assert found == {"unlisted_url": 1.0, "lookalike_url": 1.0, "punycode_url": 0.9}


@pytest.mark.parametrize(
    ("host", "score"),
    [
        ("paypa1.com", 1.0),
        ("pаypal.com", 1.0),
        ("раураӏ.com", 1.0),
        ("páypal.com", 1.0),
        ("xn--pypal-4ve.com", 1.0),
        ("rnybank.com", 1.0),
        ("paypa1.xyz", 0.9),
        ("paypal.com.evil.example", 0.95),
        ("paypal.co", 0.8),
        ("paypall.com", 0.8),
        ("papyal.com", 0.8),
        ("pypal.com", 0.8),
        ("paypal-login.com", 0.6),
        ("secure-paypa1.net", 0.6),
        ("paypal.evil.example", 0.6),
        ("paypal-com.evil.example", 0.6),
        ("0urbank.co.uk", 1.0),
        ("ourbank-help.co.uk", 0.6),
    ],
)
def test_lookalikes(host: str, score: float) -> None:
    protected = ["paypal.com", "mybank.com", "ourbank.co.uk"]
    assert labels(f"https://{host}/login", lookalikes_of=protected)["lookalike_url"] == score
    assert labels(f"https://{host}/login", allow=protected)["lookalike_url"] == score


@pytest.mark.parametrize(
    "host",
    [
        "paypal.com",
        "www.paypal.com",
        "PAYPAL.com",
        "a.ourbank.co.uk",
        "example.com",
        "party.com",
        "co.uk",
        "bank.co.uk",
    ],
)
def test_the_protected_and_strangers_are_no_lookalikes(host: str) -> None:
    assert labels(f"https://{host}/", lookalikes_of=["paypal.com", "ourbank.co.uk"]) == {}


def test_bare_names_are_lookalikes_only_with_the_same_ending() -> None:
    assert labels("log in at paypa1.com", lookalikes_of=["paypal.com"]) == {"lookalike_url": 1.0}
    assert labels("run paypall.py, see paypal.md", lookalikes_of=["paypal.com"]) == {}


@pytest.mark.parametrize(
    "host",
    [
        "10.0.0.1",
        "3232235777",
        "0xC0A80101",
        "0300.0250.1.1",
        "127.1",
        "[::1]",
        "[::ffff:10.0.0.1]:80",
        "１0.0.0.1",
        "0x7f.1",
    ],
)
def test_raw_addresses(host: str) -> None:
    assert labels(f"http://{host}/x")["ip_url"] == 1.0


def test_names_with_digits_are_no_addresses() -> None:
    assert labels("https://1and1.example https://365.example.com http://1.2.3.4.example") == {}
    assert labels("the value is 10.0.0.1") == {}


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("https://user:pw@example.com", 1.0),
        ("https://paypal.com@evil.example/", 1.0),
        ("postgres://app:pw@db/x", 1.0),
        ("https://user@example.com", 0.6),
        ("https://paypal.com%2Flogin@evil.example/", 1.0),
    ],
)
def test_credentials(text: str, score: float) -> None:
    assert labels(text)["credentials_url"] == score


def test_version_control_users_are_no_credentials() -> None:
    assert labels("ssh://git@example.com/x.git and me@example.com") == {}


def test_mixed_scripts() -> None:
    assert mixed_scripts("pаypal.com") == 0.9
    assert mixed_scripts("аррӏе.com") == 0.7
    for honest in (
        "example.com",
        "münchen.de",
        "почта.рф",
        "例え.jp",
        "東京tokyoトーキョー.jp",
        "한국.kr",
        "ελλάδα.gr",
    ):
        assert mixed_scripts(honest) == 0.0


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("EXAMPLE.com:443", Authority("", "example.com")),
        ("u:p@example.com.", Authority("u:p", "example.com")),
        ("a@b@example.com", Authority("a@b", "example.com")),
        ("[2001:db8::1]:80", Authority("", "[2001:db8::1]")),
        ("xn--invalid-punycode-é.com", Authority("", "xn--invalid-punycode-é.com")),
        ("xn--99999999999.com", Authority("", "xn--99999999999.com")),
        ("...", Authority("", "")),
        ("", Authority("", "")),
        ("example.com)", Authority("", "example.com")),
        ("a." * 1000 + "evil.com", Authority("", ("a." * 124)[1:] + "evil.com")),
    ],
)
def test_authorities(raw: str, expected: Authority) -> None:
    assert parse_authority(raw) == expected


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=40))
def test_reading_hosts_never_raises(raw: str) -> None:
    host = parse_authority(raw).host
    is_ip(host)
    mixed_scripts(host)
    skeleton(host)
    assert (host in HostList(["example.com"], below=True)) == (f".{host}".endswith(".example.com"))


@settings(max_examples=40, deadline=None)
@given(st.text(alphabet="ab.@:/\\%[]()\n -é<", max_size=20), st.text(alphabet="ab.@:/\\%[] \n-é<", max_size=20))
def test_a_denied_url_between_spaces_is_always_found(before: str, after: str) -> None:
    text = f"{before} https://evil.com/x {after}"
    found = Url({"deny": ["evil.com"]}).find(reading(text))
    place = text.index("https://evil")
    assert any(f.label == "denied_url" and f.start <= place and f.end >= place + 16 for f in found)


@pytest.mark.parametrize(
    "unit",
    [
        "https://a.evil.com/x ",
        "a.",
        "http://",
        "@",
        "a@",
        "x.com ",
        "https://x/?u=",
        "www.",
        '="//a',
        "%41",
        "a-",
        "\\",
    ],
)
def test_hostile_texts_take_linear_time(unit: str) -> None:
    check = Url({"deny": ["evil.com"], "lookalikes_of": ["paypal.com"]})
    times = []
    for size in (3_000, 12_000):
        read = reading(f"https://{unit * (size // len(unit))}")
        read.plain  # noqa: B018  normalising is not what is measured
        best = 9.0
        for _ in range(2):
            before = time.thread_time()
            check.find(read)
            best = min(best, time.thread_time() - before)
        times.append(best)
    assert times[1] < max(times[0] * 9, 0.005)


def test_clean_texts_cost_one_question() -> None:
    check, read = Url({"deny": ["evil.com"]}), reading("The order was late, e. g. by two days. " * 15)
    assert check.clean(read)
    before = time.thread_time()
    for _ in range(200):
        check.clean(read)
    assert (time.thread_time() - before) / 200 < 0.0005  # measured: 4 microseconds


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet="htps:w.evilcom/\\[]()% =.é。", max_size=24), st.integers(0, 24), st.integers(0, 24))
def test_what_is_clean_at_a_glance_is_clean_in_all_its_parts(text: str, one: int, other: int) -> None:
    check = Url({"deny": ["evil.com", "m.co"], "lookalikes_of": ["comic.com"], "allow": ["w.h"], "only_allowed": True})
    if check.clean(reading(text)):
        assert check.find(reading(text[min(one, other) : max(one, other)])) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alow": []}, "checks.url.alow: unknown option; did you mean allow?"),
        ({"deny": "evil.com"}, "checks.url.deny: expected a list of strings, not a string"),
        ({"deny": ["ok.com", "https://evil.com/x"]}, "checks.url.deny: entry 2: expected a host such as example.com"),
        ({"allow": ["a*.com"]}, "checks.url.allow: entry 1: expected a host"),
        ({"allow": [1.5]}, "checks.url.allow: entry 1: expected a string, not a number; put it in quotes"),
        ({"only_allowed": True}, "checks.url.only_allowed: needs hosts in allow"),
        ({"only_allowed": "yes"}, "checks.url.only_allowed: expected true or false, not a string"),
    ],
)
def test_mistakes_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(PolicyError) as caught:
        Url(options)
    assert str(caught.value).startswith(message)
