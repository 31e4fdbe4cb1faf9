"""Credentials are found by their form; placeholders, identifiers and hashes are left alone.

Everything shaped like a credential is put together here from pieces, so that no scanner finds one in this file.
"""

from __future__ import annotations

import base64
import json
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guardproxy.checks.secrets import Secrets
from guardproxy.errors import PolicyError
from tests.checks.forms import found, growth, reading, rows

SECRETS = Secrets({})

MIXED = "aB3dE5gH7jK9mN1pQ4sT6vW8yZ0cF2hL5nR7tX9zA3bD5fG7"
HEX = "0123456789abcdeffedcba9876543210"[::-1].replace("0123", "9a8b") * 3
_BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def with_crc(prefix: str, body: str) -> str:
    """A token whose last six characters are the check digits that GitHub and npm use."""
    value, digits = zlib.crc32(body.encode()), ""
    while value:
        value, digit = divmod(value, 62)
        digits = _BASE62[digit] + digits
    return prefix + body + digits.rjust(6, "0")


def jwt() -> str:
    parts = (json.dumps({"alg": "HS256"}), json.dumps({"sub": "1234567890"}))
    return ".".join(base64.urlsafe_b64encode(part.encode()).decode().rstrip("=") for part in parts) + "." + MIXED[:43]


def pem(kind: str = "RSA ") -> str:
    body = "\n".join(MIXED + MIXED[:16] for _ in range(6))
    return f"-----BEGIN {kind}PRIVATE" + f" KEY-----\n{body}\n-----END {kind}PRIVATE" + " KEY-----"


TOKENS = [
    ("AWS_ACCESS_KEY", "AKIA" + "Q3EGRKZV7NPLSJ5T"),
    ("GITHUB_TOKEN", with_crc("ghp" + "_", MIXED[:30])),
    ("GITHUB_TOKEN", "github" + "_pat_" + MIXED[:22] + "_" + (MIXED * 2)[:59]),
    ("GITLAB_TOKEN", "glpat" + "-" + MIXED[:20]),
    ("OPENAI_KEY", "sk" + "-proj-" + MIXED[:20] + "T3Blbk" + "FJ" + MIXED[:20]),
    ("OPENAI_KEY", "sk" + "-" + MIXED),
    ("ANTHROPIC_KEY", "sk" + "-ant-api03-" + MIXED * 2),
    ("SLACK_TOKEN", "xox" + "b-1234567890-" + MIXED[:24]),
    ("GOOGLE_API_KEY", "AI" + "za" + MIXED[:35]),
    ("STRIPE_KEY", "sk" + "_live_" + MIXED[:24]),
    ("NPM_TOKEN", with_crc("npm" + "_", MIXED[:30])),
    ("PYPI_TOKEN", "pypi" + "-AgEIcHlwaS5vcmc" + MIXED),
    ("SENDGRID_KEY", "SG" + "." + MIXED[:22] + "." + MIXED[:43]),
    ("TWILIO_KEY", "SK" + HEX[:32]),
    ("AZURE_KEY", (MIXED * 2)[:76] + "AZ" + "DO" + "1aB2"),
    ("JWT", jwt()),
    ("PRIVATE_KEY", pem()),
    ("PRIVATE_KEY", pem("")),
    ("PRIVATE_KEY", pem("OPENSSH ")),
    ("PRIVATE_KEY", base64.b64encode(pem().encode()).decode()),
    ("SECRET", "hf" + "_" + MIXED[:34]),
    ("SECRET", "dop" + "_v1_" + HEX[:64].ljust(64, "a")),
    ("SECRET", "123456789" + ":AA" + MIXED[:33]),
    ("SECRET", "$2b" + "$12$" + (MIXED * 2)[:53]),
]


@pytest.mark.parametrize(("label", "token"), TOKENS)
@pytest.mark.parametrize("frame", ["{}", "use {} for it", 'curl -H "X: {}"', "KEY={}\n"])
def test_a_token_is_found_whole(label: str, token: str, frame: str) -> None:
    assert (label, token) in found(SECRETS, frame.format(token))


@pytest.mark.parametrize(
    ("label", "frame", "value"),
    [
        ("URL_PASSWORD", "postgres://app:{}@db.internal:5432/x", "tr0ub4dor"),
        ("URL_PASSWORD", "mongodb+srv://app:{}@cluster0.example.net", "p@ss:w0rd!"),
        ("URL_PASSWORD", "redis://:{}@localhost:6379", "n0tS3cr3tEnough"),
        ("BEARER_TOKEN", "Authorization: Bearer {}", MIXED[:32]),
        ("PASSWORD", "Authorization: Basic {}", base64.b64encode(b"aladdin:opensesame").decode()),
        ("PASSWORD", 'password = "{}"', "tr0ub4dor&3"),
        ("PASSWORD", "PASSWORD={}", "tr0ub4dor"),
        ("PASSWORD", '{{"pwd": "{}"}}', "correct-horse-9"),
        ("PASSWORD", '{{\\"password\\": \\"{}\\"}}', "tr0ub4dor"),
        ("PASSWORD", "db_password: {}", "Tr0ub4dor!"),
        ("PASSWORD", "Server=x;User Id=sa;Password={};Database=y", "P@55word9x"),
        ("PASSWORD", "mysql --password={}", "tr0ub4dor"),
        ("PASSWORD", "mysql --password {} -h db", "tr0ub4dor"),
        ("PASSWORD", "the password is {}", "hunter22"),
        ("PASSWORD", "My password for the server is {}", "hunter22"),
        ("PASSWORD", "Mein Passwort ist {}", "Sommer2024!"),
        ("PASSWORD", "<password>{}</password>", "tr0ub4dor"),
        ("PASSWORD", "machine api.example.com login me password {}", "tr0ub4dor"),
        ("PASSWORD", "curl -u admin:{} https://x.example", "tr0ub4dor"),
        ("GENERIC_SECRET", 'api_key = "{}"', MIXED[:32]),
        ("GENERIC_SECRET", '"clientSecret": "{}"', MIXED[:40]),
        ("GENERIC_SECRET", "https://x.example/get?token={}&v=1", MIXED[:32]),
        ("GENERIC_SECRET", "SECRET_KEY={}", HEX[:40]),
        ("AZURE_KEY", "AccountName=a;AccountKey={};", (MIXED * 2)[:86] + "=="),
        ("AWS_ACCESS_KEY", "aws_secret_access_key = {}", (MIXED + "+/")[-40:]),
    ],
)
def test_a_named_value_is_found_whole(label: str, frame: str, value: str) -> None:
    assert (label, value) in found(SECRETS, frame.format(value))


@pytest.mark.parametrize(
    "text",
    [
        "password = os.environ['DB_PASSWORD'], secret = os.getenv('SECRET')",
        "password: ${DB_PASSWORD}, token: {{ secrets.TOKEN }}, api_key: $API_KEY, pwd=%PWD%",
        "password=<your-password>, api_key='<YOUR_API_KEY>', token: [token]",
        "password = changeme; secret = 'your-secret-here'; api_key = xxxxxxxxxxxxxxxxxxxx",
        "password: string, token: str | None, secret: null, password: ********",
        "password = get_password(user); token = request.headers['x']; pwd = self.config.password",
        "The password must be at least 12 characters. The password is required. Password: (hidden)",
        "max_tokens: 4096, tokens: 12345678901234, token_count=123456789012, tokenizer: 'cl100k_base'",
        "The secret: be kind to everybody and breathe. Their secret is simple.",
        "550e8400-e29b-41d4-a716-446655440000",
        "commit da39a3ee5e6b4b0d3255bfef95601890afd80709",
        'integrity "sha512-' + MIXED * 2 + '=="',
        "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk",
        "sk-learn-contrib-something-more, risk-assessment-of-everything",
        "https://user@host.example/x, https://host.example:8080/a@b",
        "AKIA is a prefix; ghp_ too; eyJ starts a token",
        "Bearer of bad news everywhere-and-always",
        "The token ring, the key issue: none, a secret garden = book",
        "password_hint = 'pet', forgot_password: /users/password/reset",
    ],
)
def test_what_only_looks_like_it_is_left_alone(text: str) -> None:
    assert found(SECRETS, text) == []


def test_examples_score_low_but_show() -> None:
    example = "AKIA" + "IOSFODNN7" + "EXAMPLE"
    assert found(SECRETS, example) == []
    assert found(SECRETS, example, least=0.1) == [("AWS_ACCESS_KEY", example)]
    assert found(SECRETS, 'password = "changeme"', least=0.1) == [("PASSWORD", "changeme")]


def test_check_digits_raise_the_score() -> None:
    good = with_crc("ghp" + "_", MIXED[:30])
    bad = good[:-1] + ("0" if good[-1] != "0" else "1")
    (right,), (wrong,) = SECRETS.find(reading(good)), SECRETS.find(reading(bad))
    assert (right.score, wrong.score) == (0.99, 0.85)


def test_an_unfinished_key_reaches_to_the_end() -> None:
    text = "here:\n" + pem()[:200]
    assert found(SECRETS, text) == [("PRIVATE_KEY", pem()[:200])]


def test_two_keys_are_two_findings() -> None:
    assert found(SECRETS, f"{pem()}\n\n{pem('EC ')}") == [("PRIVATE_KEY", pem()), ("PRIVATE_KEY", pem("EC "))]


def test_a_public_key_is_no_secret() -> None:
    public = pem().replace("PRIVATE", "PUBLIC")
    assert found(SECRETS, public) == []


@pytest.mark.parametrize(
    "disguise",
    [
        lambda token: "\u200b".join(token),
        lambda token: token.replace("_", "\uff3f"),
        lambda token: token.replace("p", "\u0440"),
        lambda token: token.replace("_", "\\u005f"),
        lambda token: token.replace("_", "%5F"),
        lambda token: token.translate({ord("0") + n: 0xFF10 + n for n in range(10)}),
    ],
)
def test_a_disguise_hides_nothing(disguise: object) -> None:
    token = with_crc("ghp" + "_", MIXED[:30])
    text = f"use {disguise(token)} now"  # type: ignore[operator]
    (finding,) = SECRETS.find(reading(text))
    assert (finding.label, finding.score) == ("GITHUB_TOKEN", 0.99)
    assert text[: finding.start] + text[finding.end :] == "use  now"


def test_options() -> None:
    token = "glpat" + "-" + MIXED[:20]
    assert found(Secrets({"entities": ["PASSWORD"]}), f"{token} password=tr0ub4dor") == [("PASSWORD", "tr0ub4dor")]
    assert found(Secrets({"allow": [token.upper()]}), token) == []
    with pytest.raises(PolicyError, match=r"checks\.secrets\.entities: no such entity: PASWORD; did you mean PASSWORD"):
        Secrets({"entities": ["PASWORD"]})
    with pytest.raises(PolicyError, match=r"checks\.secrets\.alow: unknown option; did you mean allow"):
        Secrets({"alow": []})


PIECES = [
    "password=",
    "sk-",
    MIXED,
    " ",
    "://a:",
    "b@c",
    "-----BEGIN PRIVATE" + " KEY-----",
    "\u200b",
    '"',
    "Bearer ",
    "é",
]


@settings(max_examples=150, deadline=None)
@given(st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=4)), max_size=8).map("".join))
def test_findings_are_in_range_in_order_and_apart(text: str) -> None:
    last = 0
    for finding in SECRETS.find(reading(text)):
        assert last <= finding.start < finding.end <= len(text)
        assert finding.label in SECRETS.labels
        last = finding.end


@pytest.mark.parametrize(
    "piece",
    [
        "password=", "password = 'a", "api_key: ", "-----BEGIN PRIVATE" + " KEY-----", "x://a:b", "x://a:b@c ",
        "Bearer ", "eyJaaaaaaaa.", "AKIA", "sk-", "a", 'secret "', "basic ", "machine a login b ", " -u a:",
    ],
)  # fmt: skip
def test_hostile_text_takes_linear_time(piece: str) -> None:
    text = piece * (20_000 // len(piece))
    assert growth(lambda value: SECRETS.find(reading(value)), text) < 3


@pytest.mark.shared
def test_recall_and_false_positives_on_published_examples() -> None:
    """Floors below what was measured: 83 % of the secrets; of the negatives, most are secrets of another kind."""
    hits, secrets, alarms, negatives = 0, 0, 0, 0
    for row in rows("noseyparker_examples.jsonl"):
        alarm = bool(found(SECRETS, row["text"]))
        if not row["labels"]["secret"]:
            negatives, alarms = negatives + 1, alarms + alarm
        elif "secret" in row["labels"]["native"]["categories"]:
            secrets, hits = secrets + 1, hits + alarm
    assert hits / secrets > 0.79
    assert alarms / negatives < 0.27
