"""The words that name a label, in the languages of the countries that issue it.

A word is a fragment of a regular expression, lower case; case is ignored. A fragment of ASCII letters matches at the
start of a word, short ones only as a whole word, so that "pan" does not match in "company" and "ssn" does in
"user_ssn".
"""

from __future__ import annotations

from guardproxy.patterns import PatternSet

_PERSONAL_NUMBER = ("personal (?:id|identification|identity|number)", "national id", "id number", "identity number")

CONTEXT: dict[str, tuple[str, ...]] = {
    "PHONE_NUMBER": (
        "phone", "telephone", "tel", "mobile", "cell", "fax", "call", "calling", "whatsapp", "sms", "hotline",
        "text me", "reach (?:me|us|him|her|them)", "telefon", "handy", "mobil", "rufnummer", "anrufen", "tél",
        "téléphone", "portable", "appel", "teléfono", "telefono", "móvil", "movil", "celular", "llam",
        "cellulare", "telefone", "telemóvel", "ligue", "telefoon", "mobiel", "bel", "puhelin",
        "numer telefonu", "zadzwo", "телефон", "звон",
        "τηλέφωνο", "电话", "電話", "手机", "手機",
        "携帯", "전화", "연락처", "هاتف", "جوال", "โทร", "फ़ोन", "फोन", "मोबाइल",
    ),
    "CREDIT_CARD": (
        "credit", "card", "visa", "mastercard", "amex", "american express", "debit", "kreditkarte", "karte", "carte",
        "tarjeta", "cartão", "cartao", "carta di credito", "kaart", "карт", "信用卡", "カード", "카드",
    ),
    "IBAN_CODE": ("iban", "bank", "konto", "compte", "cuenta", "conto", "rekening", "account"),
    "IP_ADDRESS": ("ip", "ipv4", "ipv6", "host", "server", "client", "remote", "logged in", "login", "from"),
    "CRYPTO": ("bitcoin", "btc", "wallet", "eth", "ethereum", "crypto", "address"),
    "ABA_ROUTING_NUMBER": ("routing", "aba", "rtn", "transit"),
    "US_SSN": ("ssn", "ssns", "ss#", "social security", "social sec", "soc sec", "seguro social"),
    "US_ITIN": ("itin", "individual tax", "taxpayer", "tax[ _-]?id", "tin"),
    "US_NPI": ("npi", "national provider", "provider identifier"),
    "US_MBI": ("medicare", "mbi", "beneficiary"),
    "MEDICAL_LICENSE": ("dea", "medical licen", "prescriber"),
    "UK_NHS": ("nhs", "national health", "health service", "patient number"),
    "UK_NINO": ("nino", "national insurance", "ni number", "ni no", "insurance number"),
    "ES_NIF": ("dni", "nif", "documento nacional", "identidad", "identificaci"),
    "ES_NIE": ("nie", "extranjero", "identidad", "identificaci"),
    "IT_FISCAL_CODE": ("codice fiscale", "cod\\.? ?fisc", "c\\.f\\.", "fiscal code"),
    "DE_TAX_ID": ("steuer", "idnr", "id-nr", "tin", "tax[ _-]?id", "identifikationsnummer"),
    "DE_SOCIAL_SECURITY": ("sozialversicherung", "rentenversicherung", "rvnr", "svnr", "versicherungsnummer"),
    "FR_NIR": ("nir", "sécurité sociale", "securite sociale", "sécu", "insee", "carte vitale", "numéro de sécu"),
    "NL_BSN": ("bsn", "burgerservice", "sofi", "citizen service"),
    "BE_NN": ("rijksregister", "registre national", "numéro national", "insz", "niss", "national register"),
    "PT_NIF": ("nif", "contribuinte", "número fiscal", "identificação fiscal", "nº fiscal"),
    "PT_CC": ("cartão de cidadão", "cartao de cidadao", "bilhete de identidade", "citizen card"),
    "SE_PERSONNUMMER": ("personnummer", "pnr", "swedish id", "samordningsnummer", *_PERSONAL_NUMBER),
    "DK_CPR": ("cpr", "personnummer", "danish id", *_PERSONAL_NUMBER),
    "NO_FODSELSNUMMER": ("fødselsnummer", "fodselsnummer", "personnummer", "fnr", "d-nummer", *_PERSONAL_NUMBER),
    "FI_PERSONAL_IDENTITY_CODE": ("hetu", "henkilötunnus", "personbeteckning", *_PERSONAL_NUMBER),
    "IS_KENNITALA": ("kennitala", *_PERSONAL_NUMBER),
    "CH_AHV": ("ahv", "avs", "oasi", "sozialversicherungsnummer"),
    "AT_SVNR": ("svnr", "sozialversicherung", "sv-nummer", "versicherungsnummer", "e-card"),
    "PL_PESEL": ("pesel",),
    "CZ_RODNE_CISLO": ("rodné číslo", "rodne cislo", "rodné čislo", "r\\.č\\.", "rč", "birth number"),
    "RO_CNP": ("cnp", "cod numeric", *_PERSONAL_NUMBER),
    "BG_EGN": ("егн", "egn", "единен граждански", *_PERSONAL_NUMBER),
    "HR_OIB": ("oib", "osobni identifikacijski"),
    "EE_IK": ("isikukood", "isikukoodi", *_PERSONAL_NUMBER),
    "LT_ASMENS_KODAS": ("asmens kod", *_PERSONAL_NUMBER),
    "GR_AMKA": ("αμκα", "amka"),
    "IE_PPS": ("pps", "ppsn", "personal public service"),
    "SI_EMSO": ("emšo", "emso", "jmbg", "јмбг", "matični broj", "maticni broj"),
    "RU_INN": ("инн", "inn"),
    "RU_SNILS": ("снилс", "snils"),
    "UA_RNTRC": ("рнокпп", "іпн", "інн", "rntrc"),
    "TR_NATIONAL_ID": ("tc kimlik", "t\\.c\\.", "tckn", "kimlik", "turkish id"),
    "IL_ID": ("teudat zehut", "תעודת זהות", "ת\\.ז", "israeli id", "mispar zehut"),
    "AE_EMIRATES_ID": ("emirates id", "eid", "الهوية"),
    "SA_NATIONAL_ID": ("iqama", "saudi id", "رقم الهوية", "الهوية الوطنية"),
    "ZA_ID_NUMBER": ("south african id", "sa id", "rsa id", "id number", "identity number", "id no"),
    "CA_SIN": ("sin", "social insurance", "assurance sociale", "nas"),
    "MX_CURP": ("curp", "clave única", "clave unica"),
    "MX_RFC": ("rfc", "registro federal"),
    "BR_CPF": ("cpf", "cadastro de pessoas", "contribuinte"),
    "AR_CUIT": ("cuit", "cuil"),
    "CL_RUT": ("rut", "run", "rol único", "rol unico"),
    "DO_CEDULA": ("cédula", "cedula"),
    "EC_CEDULA": ("cédula", "cedula"),
    "AU_TFN": ("tfn", "tax file"),
    "AU_ABN": ("abn", "australian business"),
    "AU_MEDICARE": ("medicare",),
    "NZ_IRD": ("ird", "inland revenue"),
    "IN_AADHAAR": ("aadhaar", "aadhar", "adhaar", "uidai", "आधार"),
    "IN_PAN": ("pan", "permanent account", "income tax"),
    "PK_CNIC": ("cnic", "nic", "شناختی"),
    "CN_RIC": ("身份证", "身份號", "居民身份", "resident identity", "chinese id", "id card"),
    "TW_ID": ("身分證", "taiwan id", "national id"),
    "HK_ID": ("hkid", "身份證", "hong kong id"),
    "JP_MY_NUMBER": ("マイナンバー", "個人番号", "my number"),
    "KR_RRN": ("주민등록", "주민번호", "rrn", "resident registration", "외국인등록"),
    "SG_NRIC_FIN": ("nric", "fin", "singapore"),
    "MY_NRIC": ("nric", "mykad", "kad pengenalan", "no\\. ?kp", "ic no", "ic number"),
    "ID_NIK": ("nik", "ktp", "nomor induk"),
    "TH_TNIN": ("บัตรประชาชน", "ประจำตัวประชาชน", "thai id", "tnin", "citizen id"),
}  # fmt: skip


def _fragment(word: str) -> str:
    if not word[0].isascii():
        return word
    short = len(word) <= 4 and word[-1].isascii() and word[-1].isalnum()
    return rf"(?:^|[^a-z]){word}(?:[^a-z]|$)" if short else rf"(?:^|[^a-z]){word}"


LABELS_IN_ORDER = tuple(CONTEXT)
WORDS = PatternSet([f"(?:{'|'.join(map(_fragment, CONTEXT[label]))})" for label in LABELS_IN_ORDER], ignore_case=True)
