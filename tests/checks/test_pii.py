"""Personal data is found by its form, in many disguises, and what only looks like it is left alone."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guardproxy.checks.pii import SPEC, Pii
from guardproxy.errors import PolicyError
from tests.checks.forms import found, growth, reading

PII = Pii({})

# Test numbers of the card schemes, put together here so that no scanner takes them for live ones.
VISA = "4111" + "1111" * 3
VISA_SPACED = " ".join(("4111", "1111", "1111", "1111"))
AMEX = "-".join(("3782", "822463", "10005"))
SSN = "-".join(("078", "05", "1120"))

FORMATS = [
    ("EMAIL_ADDRESS", "Write to {}.", "jane.doe+news@mail.example.co.uk"),
    ("EMAIL_ADDRESS", "请联系{}，谢谢", "john@example.com"),
    ("EMAIL_ADDRESS", "mail {} now", "user@xn--80ak6aa92e.com"),
    ("EMAIL_ADDRESS", "an {}", "勇.朱91@zoho.com"),
    ("EMAIL_ADDRESS", "reach {} please", "john (at) example (dot) com"),
    ("EMAIL_ADDRESS", "reach {} please", "john [at] example.com"),
    ("EMAIL_ADDRESS", "reach {} please", "john at example dot com"),
    ("EMAIL_ADDRESS", "reach {} please", "john @ example.com"),
    ("PHONE_NUMBER", "({})", "+1 415 555 2671"),
    ("PHONE_NUMBER", "{}", "+44 (0)20 7946 0958"),
    ("PHONE_NUMBER", "{}", "+49 30 901820"),
    ("PHONE_NUMBER", "{}", "0033 1 42 68 53 00"),
    ("PHONE_NUMBER", "{}", "(212) 555-0123"),
    ("PHONE_NUMBER", "{}", "212-555-0123"),
    ("PHONE_NUMBER", "ring {}", "020 7946 0958"),
    ("PHONE_NUMBER", "Tél. : {}", "01 42 68 53 00"),
    ("PHONE_NUMBER", '"phone": "{}"', "2125550123"),
    ("CREDIT_CARD", "{}", VISA),
    ("CREDIT_CARD", "{}", VISA_SPACED),
    ("CREDIT_CARD", "{}", VISA_SPACED.replace(" ", "-")),
    ("CREDIT_CARD", "{}", AMEX),
    ("CREDIT_CARD", "https://shop.example/pay/{}", VISA),
    ("IBAN_CODE", "{}", "DE89 3704 0044 0532 0130 00"),
    ("IBAN_CODE", "{} and more", "GB29NWBK60161331926819"),
    ("IBAN_CODE", "IBAN: {}", "DE89370400440532013001"),
    ("IP_ADDRESS", "login from {}", "192.168.1.20"),
    ("IP_ADDRESS", "{}", "93.184.216.34"),
    ("IP_ADDRESS", "{}", "2001:db8:85a3::8a2e:370:7334"),
    ("MAC_ADDRESS", "{}", "9a:2e:d4:2f:9d:bf"),
    ("CRYPTO", "{}", "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa"),
    ("CRYPTO", "{}", "bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq"),
    ("CRYPTO", "{}", "bc1p5d7rjq7g6rdk2yhzks9smlaqtedr4dekq08ge8ztwac72sfr9rusxg3297"),
    ("CRYPTO", "{}", "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"),
    ("DATE_OF_BIRTH", "born on {}", "12 May 1985"),
    ("DATE_OF_BIRTH", "DOB: {}", "01/31/1990"),
    ("DATE_OF_BIRTH", '"date_of_birth": "{}"', "1990-01-31"),
    ("DATE_OF_BIRTH", "née le {}", "3 mars 1970"),
    ("DATE_OF_BIRTH", "geboren am {}", "01.02.1980"),
    ("DATE_OF_BIRTH", "fecha de nacimiento: {}", "12 de mayo de 1990"),
    ("DATE_OF_BIRTH", "出生日期：{}", "1990年1月31日"),
    ("DATE_OF_BIRTH", "your date of birth?\nA: {}", "1975-05-21"),
    ("PASSPORT", "Passport: {}", "K22801864"),
    ("PASSPORT", "Reisepass {}", "C01234565"),
    ("US_PASSPORT", "US passport {}", "912803456"),
    ("US_DRIVER_LICENSE", "driver's license {}", "D123-4567-8901"),
    ("US_BANK_NUMBER", "account number {}", "9074607450"),
    ("ABA_ROUTING_NUMBER", "routing {}", "021000021"),
    ("US_SSN", "{}", SSN),
    ("US_SSN", "Ann Lee,+1 (206) 970-3438,{},Sales", "219-09-9999"),
    ("US_SSN", "my SSN is {}", SSN.replace("-", "")),
    ("US_SSN", '"userSsn": "{}"', SSN.replace("-", "")),
    ("US_ITIN", "{}", "911-70-1234"),
    ("US_NPI", "NPI {}", "1245319599"),
    ("US_MBI", "{}", "1EG4-TE5-MK73"),
    ("UK_NHS", "NHS number {}", "401 023 2137"),
    ("UK_NINO", "{}", "AB 12 34 56 C"),
    ("UK_DRIVING_LICENCE", "{}", "MORGA657054SM9IJ"),
    ("ES_NIF", "{}", "12345678Z"),
    ("ES_NIE", "{}", "X9613851N"),
    ("IT_FISCAL_CODE", "{}", "RSSMRA85T10A562S"),
    ("DE_TAX_ID", "Steuer-ID {}", "36 574 261 809"),
    ("DE_SOCIAL_SECURITY", "{}", "15070649C103"),
    ("FR_NIR", "{}", "2 95 10 99 126 111 93"),
    ("NL_BSN", "BSN {}", "111222333"),
    ("BE_NN", "{}", "85.07.30-033.28"),
    ("PT_NIF", "NIF {}", "501964843"),
    ("SE_PERSONNUMMER", "{}", "871220-2384"),
    ("DK_CPR", "CPR-nr. {}", "211062-5629"),
    ("NO_FODSELSNUMMER", "{}", "15108695088"),
    ("FI_PERSONAL_IDENTITY_CODE", "{}", "131052-308T"),
    ("CH_AHV", "{}", "756.9217.0769.85"),
    ("AT_SVNR", "SVNR {}", "1237 010180"),
    ("PL_PESEL", "{}", "44051401458"),
    ("CZ_RODNE_CISLO", "{}", "710319/2745"),
    ("RO_CNP", "{}", "1630615123457"),
    ("BG_EGN", "ЕГН {}", "7523169263"),
    ("HR_OIB", "OIB: {}", "33392005961"),
    ("GR_AMKA", "ΑΜΚΑ {}", "01013099997"),
    ("IE_PPS", "PPS {}", "6433435F"),
    ("RU_INN", "ИНН {}", "500100732259"),
    ("RU_SNILS", "{}", "112-233-445 95"),
    ("TR_NATIONAL_ID", "TC kimlik no {}", "17291716060"),
    ("IL_ID", "teudat zehut {}", "039337423"),
    ("AE_EMIRATES_ID", "{}", "784-1980-1234567-8"),
    ("ZA_ID_NUMBER", "{}", "8001015009087"),
    ("CA_SIN", "SIN {}", "130 692 544"),
    ("MX_CURP", "{}", "BOXW310820HNERXN09"),
    ("BR_CPF", "{}", "390.533.447-05"),
    ("AR_CUIT", "{}", "20-05536168-2"),
    ("CL_RUT", "{}", "12.531.909-2"),
    ("AU_TFN", "TFN {}", "123 456 782"),
    ("AU_ABN", "{}", "51 824 753 556"),
    ("AU_MEDICARE", "Medicare {}", "2123 45670 1"),
    ("IN_AADHAAR", "Aadhaar {}", "234123412346"),
    ("IN_PAN", "{}", "ACUPA7085R"),
    ("CN_RIC", "{}", "360426199101010071"),
    ("TW_ID", "{}", "A123456789"),
    ("HK_ID", "{}", "A123456(3)"),
    ("KR_RRN", "{}", "960121-1234567"),
    ("SG_NRIC_FIN", "{}", "S2740116C"),
    ("TH_TNIN", "{}", "1-2345-45678-78-1"),
    ("ID_NIK", "NIK {}", "3171011708450001"),
]


@pytest.mark.parametrize(("label", "frame", "value"), FORMATS)
def test_a_value_is_found_whole(label: str, frame: str, value: str) -> None:
    assert (label, value) in found(PII, frame.format(value))


def test_at_least_25_countries_have_personal_numbers() -> None:
    countries = {label[:2] for label in SPEC.labels if label[2:3] == "_"} - {"IP"}
    assert len(countries) >= 40


@pytest.mark.parametrize(
    "text",
    [
        "Order 219099999 has shipped, invoice 123456782, case 130692544.",
        "At 1700000000 or 1612137600000 or 1700000000000, on 2024-01-15 10:30:45, 15.01.2024, 01/15/2024.",
        "ISBN 978-3-16-148410-0, EAN 4006381333931.",
        "550e8400-e29b-41d4-a716-446655440000 and d41d8cd98f00b204e9800998ecf8427e",
        "da39a3ee5e6b4b0d3255bfef95601890afd80709",
        "It costs $1,234,567.89 or 1.234.567,89 EUR, 3.14159265358979 times.",
        "At 40.712776, -74.005974; 100-200-300; 5 000 000 000 people.",
        "UPS 1Z999AA10123456784, tracking 9400111899223197428490.",
        "version 1.2.3.4, v10.0.0.1, release 2.0.1.0, chapter 10.1.2.3",
        "std::vector<int>::iterator, a::b, 10:30:45, 127.0.0.1, ::1, 0.0.0.0",
        "lodash@4.17.21, icon@2x.png, @handle, a@b, git@1.0.0-rc",
        "Look at the dot com bubble; meet me at noon. My dot.",
        "She was born in Paris in a small house. The meeting is on 2024-01-15.",
        "The passport office closes at 17:00. Room 12345.",
        "Card number 4111 1111 1111 1112 is wrong, DE89 3704 0044 0532 0130 01 too.",
        "000-12-3456, 666-12-3456, 900-12-3456, 123-00-4567, 123-45-0000 are no SSN.",
        "12345678901, 98765432109, 11111111111, 123456789, 987654321, 1234567890",
        "SKU 12345678A, part 20240101T, model X1234567",
        "2024 2025 2026 2027 2028, 10 20 30 40 50 60, 1 2 3 4 5 6 7 8",
        "0x1234567890abcdef and 0xdeadbeef",
    ],
)
def test_what_only_looks_like_it_is_left_alone(text: str) -> None:
    assert found(PII, text) == []


def test_words_decide_over_bare_digits() -> None:
    digits = SSN.replace("-", "")
    assert found(PII, f"number {digits}") == []
    assert found(PII, f"{digits} is my social security number") == [("US_SSN", digits)]
    assert found(PII, f"SSN unknown; order {digits}") == []
    assert found(PII, "SSN 219-09-9999; customer 130692544") == [("US_SSN", "219-09-9999")]


def test_the_best_of_overlapping_findings_is_kept() -> None:
    assert found(PII, "NHS 401-023-2137, call 212-555-0123") == [
        ("UK_NHS", "401-023-2137"),
        ("PHONE_NUMBER", "212-555-0123"),
    ]


def test_credentials_in_a_url_are_no_address() -> None:
    assert found(PII, "https://user:pa55@host.example.com/x") == []


def test_machine_readable_lines_of_a_passport() -> None:
    lines = "P<UTOERIKSSON<<ANNA<MARIA<<<<<<<<<<<<<<<<<<<\nL898902C36UTO7408122F1204159ZE184226B<<<<<10"
    assert found(PII, lines) == [("PASSPORT", lines)]
    assert found(PII, lines.replace("7408122", "7408123")) == []


# --- disguises -------------------------------------------------------------------------------------------------------

FULL_WIDTH = str.maketrans("0123456789-@", "０１２３４５６７８９－＠")
ARABIC = str.maketrans("0123456789", "٠١٢٣٤٥٦٧٨٩")


@pytest.mark.parametrize(
    ("label", "text"),
    [
        ("EMAIL_ADDRESS", "jo\u200bhn@exam\u200bple.com"),
        ("EMAIL_ADDRESS", "john\u00ad@example.com"),
        ("EMAIL_ADDRESS", "john\u202e@\u202cexample.com"),
        ("EMAIL_ADDRESS", "jоhn@еxаmple.com"),
        ("EMAIL_ADDRESS", "сосо@example.com"),
        ("EMAIL_ADDRESS", "john@example。com"),
        ("EMAIL_ADDRESS", "john\\u0040example.com"),
        ("EMAIL_ADDRESS", "john\\x40example\\x2ecom"),
        ("EMAIL_ADDRESS", "john&#64;example.com"),
        ("EMAIL_ADDRESS", "john&#x40;example&period;com"),
        ("EMAIL_ADDRESS", "john%40example.com"),
        ("EMAIL_ADDRESS", "john%2540example.com"),
        ("EMAIL_ADDRESS", "john@example(dot)com"),
        ("US_SSN", "\u200b".join(SSN)),
        ("US_SSN", SSN.translate(FULL_WIDTH)),
        ("US_SSN", SSN.replace("-", "\u2013")),
        ("US_SSN", SSN.replace("-", "\u2212")),
        ("US_SSN", SSN.replace("-", "\u00a0")),
        ("US_SSN", "078\u066005\u06601120".replace("\u0660", "\u2011")),
        ("CREDIT_CARD", VISA_SPACED.translate(ARABIC)),
        ("CREDIT_CARD", VISA[:8] + VISA[8:].translate(FULL_WIDTH)),
        ("CREDIT_CARD", " ".join(VISA)),
        ("CREDIT_CARD", "-".join(VISA)),
        ("CREDIT_CARD", "".join(digit + "\ufe0f\u20e3" for digit in VISA)),
        ("CREDIT_CARD", VISA_SPACED.replace(" ", "\u2003")),
        ("IBAN_CODE", "ＤＥ89 3704 0044 0532 0130 00"),
    ],
)
def test_a_disguise_hides_nothing(label: str, text: str) -> None:
    around = f"see: {text} (end)"
    (finding,) = [f for f in PII.find(reading(around)) if f.score >= 0.5]
    assert finding.label == label
    assert around[finding.start : finding.end].rstrip("\u200b\u202c\ufe0f\u20e3") == text.rstrip("\u202c\ufe0f\u20e3")


def test_an_edit_leaves_nothing_of_a_disguised_value() -> None:
    text = "my ssn: " + "\u200b".join(SSN.translate(FULL_WIDTH)) + " ok"
    (finding,) = PII.find(reading(text))
    assert text[: finding.start] + text[finding.end :] == "my ssn:  ok"


# --- options ---------------------------------------------------------------------------------------------------------


def test_entities_restrict_what_is_looked_for() -> None:
    check = Pii({"entities": ["EMAIL_ADDRESS"]})
    assert check.labels == {"EMAIL_ADDRESS"}
    assert found(check, f"john@example.com {SSN}") == [("EMAIL_ADDRESS", "john@example.com")]


def test_a_restriction_does_not_let_another_label_win() -> None:
    assert found(Pii({"entities": ["UK_NHS"]}), "NHS 401-023-2137") == [("UK_NHS", "401-023-2137")]


def test_regions_are_those_of_national_numbers() -> None:
    assert found(Pii({"regions": ["jp"]}), "電話 03-1234-5678") == [("PHONE_NUMBER", "03-1234-5678")]
    assert found(Pii({"regions": ["JP"]}), "call (212) 555-0123") == []


def test_allowed_values_are_never_reported() -> None:
    check = Pii({"allow": ["Support@Example.com"]})
    text = "support@example.com, sup\u200bport@example.com, john@example.com"
    assert found(check, text) == [("EMAIL_ADDRESS", "john@example.com")]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"entity": []}, "checks.pii.entity: unknown option; did you mean entities?"),
        ({"entities": ["EMAIL"]}, "checks.pii.entities: no such entity: EMAIL"),
        ({"entities": "US_SSN"}, "checks.pii.entities: expected a list"),
        ({"regions": ["UK"]}, "checks.pii.regions: no such region: UK"),
        ({"allow": [1]}, "checks.pii.allow: entry 1: expected a string"),
    ],
)
def test_a_wrong_option_is_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(PolicyError) as error:
        Pii(options)
    assert message in str(error.value)


# --- invariants ------------------------------------------------------------------------------------------------------

PIECES = [
    SSN,
    VISA_SPACED,
    "john@example.com",
    "+1 415 555 2671",
    " ",
    "\u200b",
    "born 1.2.1980",
    "1 2 3 ",
    "9" * 11,
    "%40",
    "é",
]


@settings(max_examples=150, deadline=None)
@given(st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=4)), max_size=8).map("".join))
def test_findings_are_in_range_in_order_and_apart(text: str) -> None:
    last = 0
    for finding in PII.find(reading(text)):
        assert last <= finding.start < finding.end <= len(text)
        assert finding.label in PII.labels
        assert 0 < finding.score <= 1
        last = finding.end


@pytest.mark.parametrize(
    "piece",
    [
        "1", "1 ", "12 345-", "a@", "a@b.c", "a@b.cc.", "a at ", "+1 415 555 2671 ", "born ", "passport ", "1.2.3.4.",
        "ab:", "::", "(212) 555-0123 ", "DE89 3704 ", "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed ", f"SSN {SSN} ",
        "%40", "é1",
    ],
)  # fmt: skip
def test_hostile_text_takes_linear_time(piece: str) -> None:
    text = piece * (20_000 // len(piece))
    assert growth(lambda value: PII.find(reading(value)), text) < 3


@pytest.mark.parametrize("piece", ["7", "a@a"])
def test_200_kb_of_one_thing_are_survived(piece: str) -> None:
    assert PII.find(reading(piece * (200_000 // len(piece)))) == ()


def test_past_the_budget_shape_alone_decides() -> None:
    text = "+1 415 555 2671, " * 300
    scores = [f.score for f in PII.find(reading(text))]
    assert len(scores) == 300
    assert scores[0] > 0.8
    assert scores[-1] == 0.5
