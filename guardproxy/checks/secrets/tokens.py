"""Tokens that say what they are: the issuers' own prefixes and lengths, and their check digits where they have some."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator

from guardproxy.checks.forms import Recogniser, Scan
from guardproxy.checks.secrets.entropy import bits, is_example
from guardproxy.types import Finding

_BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
Score = Callable[[str], float]


def _has_crc(token: str) -> bool:
    """Whether the last six characters are the CRC-32 of the rest behind the prefix, in base 62 (GitHub, npm)."""
    body = token.partition("_")[2]
    crc, digits = zlib.crc32(body[:-6].encode()), ""
    while crc:
        crc, digit = divmod(crc, 62)
        digits = _BASE62[digit] + digits
    return digits.rjust(6, "0") == body[-6:]


def _crc(token: str) -> float:
    return 0.99 if _has_crc(token) else 0.85


def _openai(token: str) -> float:
    if "T3BlbkFJ" in token:
        return 0.99
    mixed = any(map(str.isdigit, token)) and any(map(str.isupper, token)) and bits(token) >= 3.8
    return 0.88 if mixed else 0.2  # sk-learn-something-else


def _mixed(token: str) -> float:
    return 0.9 if any(map(str.isdigit, token)) and bits(token) >= 3.2 else 0.3


def _fixed(score: float) -> Score:
    return lambda _: score


def _token(label: str, pattern: str, score: float | Score) -> Recogniser[Scan]:
    value = score if callable(score) else _fixed(score)

    def judge(scan: Scan, start: int, end: int) -> Iterator[Finding]:
        token = scan.text[start:end]
        # the issuers' documentation is full of tokens that say EXAMPLE
        yield Finding(label, start, end, 0.3 if is_example(token) else value(token))

    return Recogniser(frozenset({label}), pattern, judge)


_W = r"[A-Za-z0-9_\-]"
_A = r"[A-Za-z0-9]"

_NAMED: Iterable[tuple[str, str, float | Score]] = (
    ("AWS_ACCESS_KEY", r"\b(?:AKIA|ASIA|ABIA|ACCA|A3T[A-Z0-9])[A-Z0-9]{16}\b", 0.95),
    ("AWS_ACCESS_KEY", r"\bamzn\.mws\.[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", 0.95),
    ("GITHUB_TOKEN", rf"\bgh[pousr]_{_A}{{36,251}}\b", _crc),
    ("GITHUB_TOKEN", rf"\bgithub_pat_{_A}{{22}}_{_A}{{59}}\b", 0.97),
    ("GITLAB_TOKEN", rf"\bgl(?:pat|dt|rt|soat|ptt|ft|cbt|imt|agent|oas)-{_W}{{20,}}", 0.95),
    ("GITLAB_TOKEN", rf"\bGR1348941{_W}{{20,}}", 0.95),
    ("ANTHROPIC_KEY", rf"\bsk-ant-{_W}{{24,}}", 0.97),
    ("OPENAI_KEY", rf"\bsk-(?:proj-|svcacct-|admin-|None-)?{_W}{{20,}}", _openai),
    ("SLACK_TOKEN", r"\bxox[abeoprs](?:\.xox[bp])?-[A-Za-z0-9\-]{10,}", 0.95),
    ("SLACK_TOKEN", r"\bxapp-\d-[A-Z0-9]+-\d+-[a-z0-9]+", 0.95),
    ("SLACK_TOKEN", r"\bhooks\.slack\.com/(?:services|workflows|triggers)/[A-Za-z0-9+/]{20,}", 0.93),
    ("GOOGLE_API_KEY", rf"\bAIza{_W}{{35}}", 0.95),
    ("GOOGLE_API_KEY", rf"\bya29\.{_W}{{20,}}", 0.9),
    ("GOOGLE_API_KEY", rf"\bGOCSPX-{_W}{{28}}", 0.97),
    ("STRIPE_KEY", rf"\b[sr]k_live_{_A}{{16,}}", 0.97),
    ("STRIPE_KEY", rf"\b[sr]k_test_{_A}{{16,}}", 0.75),
    ("STRIPE_KEY", rf"\bwhsec_{_A}{{24,}}", 0.9),
    ("NPM_TOKEN", rf"\bnpm_{_A}{{36}}\b", _crc),
    ("PYPI_TOKEN", rf"\bpypi-AgE{_W}{{50,}}", 0.98),
    ("SENDGRID_KEY", rf"\bSG\.{_W}{{16,24}}\.{_W}{{30,50}}", 0.97),
    ("TWILIO_KEY", r"\bSK[0-9a-f]{32}\b", 0.75),
    ("AZURE_KEY", rf"\b{_A}{{76}}AZDO{_A}{{4}}\b", 0.97),
    ("AZURE_KEY", r"\b[A-Za-z0-9_~.\-]{3}\dQ~[A-Za-z0-9_~.\-]{31,34}", 0.9),
    ("AZURE_KEY", r"\b[A-Za-z0-9]{52}JQQJ9[A-Za-z0-9]{27}\b", 0.97),
)
_OTHERS: Iterable[tuple[str, float | Score]] = (
    (r"\bdo[opr]_v1_[a-f0-9]{64}\b", 0.97),  # DigitalOcean
    (rf"\bdp\.(?:pt|ct|st|scim|audit|sa)\.(?:[a-z0-9_\-]+\.)?{_A}{{40,44}}", 0.95),  # Doppler
    (rf"\bsl\.(?:u\.)?{_W}{{100,}}", 0.9),  # Dropbox
    (rf"\bhf_{_A}{{34}}\b", 0.93),  # Hugging Face
    (r"\bdapi[a-f0-9]{32}(?:-\d)?\b", 0.95),  # Databricks
    (rf"\bgl(?:sa|c)_{_A}{{32,}}(?:_[a-f0-9]{{8}})?={{0,2}}", 0.93),  # Grafana
    (rf"\bgsk_{_A}{{48,}}", 0.95),  # Groq
    (rf"\bHRKU-{_W}{{36,}}", 0.93),  # Heroku
    (rf"\blin_api_{_A}{{40}}\b", 0.95),  # Linear
    (r"\bkey-[0-9a-f]{32}\b", 0.85),  # Mailgun
    (r"\b[0-9a-f]{32}-us\d{1,2}\b", 0.9),  # Mailchimp
    (rf"\b[st]k\.eyJ{_W}{{20,}}\.{_W}{{20,}}", 0.9),  # Mapbox
    (rf"\bNR(?:AK|AA|II|IQ|RA|SP)-{_W}{{27,}}", 0.93),  # New Relic
    (r"\bPMAK-[a-f0-9]{24}-[a-f0-9]{34}\b", 0.97),  # Postman
    (r"\brubygems_[a-f0-9]{48}\b", 0.97),
    (r"\bshp(?:at|ca|pa|ss|tka)_[a-fA-F0-9]{32}\b", 0.97),  # Shopify
    (r"\bsgp_(?:[a-fA-F0-9]{16}_|local_)?[a-fA-F0-9]{40}\b", 0.95),  # Sourcegraph
    (rf"\bsgp_{_A}{{64}}\b", 0.95),  # Segment
    (rf"\b(?:EAAA{_W}{{60}}|sq0(?:csp|atp|idp)-{_W}{{22,43}})", 0.93),  # Square
    (rf"\b\d{{8,10}}:AA{_W}{{32,33}}", 0.95),  # Telegram
    (rf"\bhv[sbr]\.{_W}{{24,}}", 0.95),  # Vault
    (rf"\bfigd_{_W}{{38,}}", 0.95),  # Figma
    (rf"\btvly-(?:dev-)?{_A}{{20,}}", 0.93),  # Tavily
    (rf"\bjina_{_A}{{50,}}", 0.93),
    (rf"\baio_{_A}{{28}}\b", 0.9),  # Adafruit
    (rf"\bAT[AC]TT3xFf{_W}{{40,}}={{0,2}}[A-F0-9]{{8}}", 0.97),  # Atlassian
    (rf"\bATBB{_A}{{32}}\b", 0.93),  # Bitbucket
    (r"\bAKC[a-zA-Z0-9]{64,}\b", 0.9),  # Artifactory
    (rf"\bcio{_A}{{32}}\b", 0.85),  # crates.io
    (rf"\bdckr_[po]at_{_W}{{27,}}", 0.97),  # Docker Hub
    (r"\bdt0[a-z]\d{2}\.[A-Z2-7]{24}\.[A-Z2-7]{64}\b", 0.98),  # Dynatrace
    (r"\bAGE-SECRET-KEY-1[0-9A-Z]{58}\b", 0.98),
    (rf"\bEAA(?:C|M|CEdEose0cBA){_A}{{20,}}", 0.8),  # Facebook
    (r"\bfc-[0-9a-f]{32}\b", 0.85),  # Firecrawl
    (r"\boy2[a-z0-9]{43}\b", 0.93),  # NuGet
    (rf"\b00D{_A}{{12,15}}![A-Za-z0-9_.]{{80,}}", 0.95),  # Salesforce
    (rf"\bhawk\.{_W}{{20}}\.{_W}{{20}}\b", 0.9),  # StackHawk
    (r"\bda2-[a-z0-9]{26}\b", 0.9),  # AppSync
    (r"\bsq[apu]_[a-f0-9]{40}\b", 0.95),  # SonarQube
    (rf"\bodt_{_A}{{32,}}", 0.9),  # Dependency-Track
    (r"\bdjango-insecure-[^\s'\"]{20,}", 0.85),
    (rf"\b[MNO][A-Za-z0-9]{{23,25}}\.{_W}{{6}}\.{_W}{{27,}}", 0.9),  # Discord
    (r"\bdiscord(?:app)?\.com/api/webhooks/\d+/[A-Za-z0-9_\-]{40,}", 0.93),
    (r"\boutlook\.office(?:365)?\.com/webhook/[0-9a-f\-]{36}@[0-9a-f\-]{36}/IncomingWebhook/[^\s\"']+", 0.93),
    (r"\bwebhook\.office\.com/webhookb2/[^\s\"'/]+/IncomingWebhook/[^\s\"']+", 0.93),
    (r"\$(?:1|5|6|8|9|y|2[abxy]?)\$(?:rounds=\d+\$|\d\d\$)?[A-Za-z0-9./]{4,53}(?:\$[A-Za-z0-9./]{20,90})?", _mixed),
    (r"\$krb5asrep\$23\$(?:[^\s:$]+:)?[a-f0-9]{32}\$[a-f0-9]{64,}", 0.9),
    (rf"\blive_\d{{8,10}}_{_A}{{30}}\b", 0.93),  # Twitch
    (rf"\b\d{{1,2}}-{_A}{{64}}\b", 0.85),  # TrueNAS
    (r"(?i)\bsonar\.?login\W{1,6}([a-f0-9]{40})\b", 0.9),
    (r"\beyJrIjoi[A-Za-z0-9+/]{60,}={0,2}", 0.9),  # Grafana, older
)

TOKENS = (
    *(_token(label, pattern, score) for label, pattern, score in _NAMED),
    *(_token("SECRET", pattern, score) for pattern, score in _OTHERS),
)
