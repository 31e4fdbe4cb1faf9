"""Pseudonyms: the same for the same value, restored only by their own vault, and not to be guessed."""

from guardproxy.vault import Vault


def restored(vault: Vault, text: str) -> str:
    out, position = "", 0
    for start, end, value in vault.occurrences(text):
        out += text[position:start] + value
        position = end
    return out + text[position:]


def test_the_same_value_has_the_same_name() -> None:
    vault = Vault("k3f9")
    first = vault.pseudonym("EMAIL_ADDRESS", "ann@example.org")
    assert first == "[EMAIL_ADDRESS_1_k3f9]"
    assert vault.pseudonym("EMAIL_ADDRESS", "ann@example.org") == first
    assert vault.pseudonym("EMAIL_ADDRESS", "bob@example.org") == "[EMAIL_ADDRESS_2_k3f9]"


def test_values_come_back_with_or_without_brackets() -> None:
    vault = Vault("k3f9")
    name = vault.pseudonym("PERSON", "Ann")
    assert restored(vault, f"Dear {name}, also ({name[1:-1]}) and {name}{name}") == "Dear Ann, also (Ann) and AnnAnn"


def test_another_exchange_s_names_mean_nothing() -> None:
    mine, other = Vault("aaaa"), Vault("bbbb")
    mine.pseudonym("PERSON", "Ann")
    foreign = other.pseudonym("PERSON", "Bob")
    assert restored(mine, f"{foreign} [PERSON_1_] [PERSON_1] [PERSON_9_aaaa]") == (
        f"{foreign} [PERSON_1_] [PERSON_1] [PERSON_9_aaaa]"
    )


def test_a_value_that_looks_like_a_name_is_not_restored_again() -> None:
    vault = Vault("k3f9")
    first = vault.pseudonym("PERSON", "Ann")
    second = vault.pseudonym("PERSON", first)
    assert restored(vault, second) == first


def test_without_a_nonce_names_are_the_same_in_every_exchange_and_nothing_is_restored() -> None:
    vault = Vault("")
    assert vault.pseudonym("PERSON", "Ann") == Vault("").pseudonym("PERSON", "Ann") == "[PERSON_1]"
    assert not vault
    assert list(vault.occurrences("[PERSON_1]")) == []


def test_an_empty_vault_finds_nothing() -> None:
    assert not Vault("k3f9")
    assert list(Vault("k3f9").occurrences("_k3f9]" * 100)) == []
