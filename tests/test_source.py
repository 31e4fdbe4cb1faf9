"""source: YAML whose values know their places and hold no surprises."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guardproxy.source import MOST_DEPTH, read_yaml
from guardproxy.strict import Problems


def read(data: bytes | str) -> tuple[object, list[str]]:
    problems = Problems()
    node = read_yaml(data, "p.yaml", problems)
    return (node.plain() if node else None), list(problems)


def test_scalars_mean_what_they_look_like() -> None:
    value, problems = read(
        "country: no\nversion: 1.10\ndate: 2024-01-01\ntime: 12:30\noctal: 010\nyes: on\nt: true\nn: ~\nq: '1'\nf: .5\n"
    )
    assert problems == []
    assert value == {
        "country": "no",
        "version": 1.1,
        "date": "2024-01-01",
        "time": "12:30",
        "octal": 10,
        "yes": "on",
        "t": True,
        "n": None,
        "q": "1",
        "f": 0.5,
    }


def test_places_count_from_one_and_raw_is_as_typed() -> None:
    root = read_yaml("a:\n  - b: 1.10\n", "p.yaml", Problems())
    assert root is not None
    inner = root.value["a"].value[0].value["b"]
    assert (inner.place, inner.key_place, inner.raw) == ("p.yaml:2:8", "p.yaml:2:5", "1.10")


def test_a_key_written_twice_is_an_error_at_the_second() -> None:
    assert read("a: 1\nb: 2\na: 3\n")[1] == ["p.yaml:3:1: the key `a` is written twice (first at 1:1)"]


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        ("a: [1,", "p.yaml:2:1: not readable as YAML"),
        ("a: 1\n---\nb: 2\n", "p.yaml:2:1: not readable as YAML"),
        ("a: !!python/object/apply:os.system [x]", "p.yaml:1:4: the tag"),
        ("? [a]\n: 1", "p.yaml:1:3: a key must be"),
        (b"\xff\xfe", "p.yaml: not UTF-8"),
        ("a: \x00", "p.yaml: not readable"),
        ("a: &x [*x]", "p.yaml:1:"),
        ("[" * 5000, f"p.yaml:1:{MOST_DEPTH + 1}: nested"),
        ("[" * 500_000, f"p.yaml:1:{MOST_DEPTH + 1}: nested"),
    ],
)
def test_what_is_refused(data: bytes | str, complaint: str) -> None:
    _, problems = read(data)
    assert len(problems) == 1
    assert problems[0].startswith(complaint)


def test_aliases_cannot_unfold_without_end() -> None:
    lines = ["a0: &a0 [1,1,1,1,1,1,1,1,1,1]"]
    lines += [f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    value, problems = read("\n".join(lines))
    assert value is None
    assert "more than 200000 values" in problems[0]


def test_an_alias_may_repeat_a_list() -> None:
    assert read("a: &x [1, 2]\nb: *x\n") == ({"a": [1, 2], "b": [1, 2]}, [])


def test_a_byte_order_mark_and_an_empty_file() -> None:
    assert read("\ufeffa: 1".encode()) == ({"a": 1}, [])
    assert read("") == (None, [])


@settings(max_examples=80, deadline=None)
@given(st.one_of(st.binary(max_size=60), st.text(alphabet="ab:-[]{}&*!|>'\" \n#?%,", max_size=60)))
def test_nothing_makes_it_raise(data: bytes | str) -> None:
    problems = Problems()
    node = read_yaml(data, "p", problems)
    assert node is not None or problems
