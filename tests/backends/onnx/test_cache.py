"""What is remembered, of whom, and how much."""

from hypothesis import given
from hypothesis import strategies as st

from guardproxy.backends.onnx.cache import LONGEST, Cache
from guardproxy.backends.onnx.decode import Judgement
from guardproxy.types import Finding

ONE = {"toxicity": Judgement(scores=(0.5,))}

checks = st.frozensets(st.text(min_size=1, max_size=2), max_size=3)
parts = st.tuples(st.text(max_size=4), st.sampled_from(["prompt", "completion"]), checks, st.text(max_size=6))


@given(parts, parts)
def test_two_keys_are_equal_only_for_the_same_in_everything(
    one: tuple[str, str, frozenset[str], str], other: tuple[str, str, frozenset[str], str]
) -> None:
    cache = Cache("digest")
    assert (cache.key(*one) == cache.key(*other)) == (one == other)


def test_each_part_matters() -> None:
    cache = Cache("digest")
    base = ("t", "prompt", frozenset({"a", "b"}), "text")
    keys = {
        cache.key(*base),
        cache.key("u", *base[1:]),
        cache.key("t", "completion", *base[2:]),
        cache.key(*base[:2], frozenset({"a"}), "text"),
        cache.key(*base[:3], "text "),
        cache.key("tprompt", "", *base[2:]),
        Cache("other").key(*base),
        Cache("digest").key(*base),  # another process
    }
    assert len(keys) == 8
    assert all(len(key) == 16 for key in keys)


def test_the_least_recently_used_goes_first() -> None:
    cache = Cache("digest", entries=3)
    keys = [cache.key("", "prompt", {"a"}, str(number)) for number in range(4)]
    for key in keys[:3]:
        cache.put(key, ONE)
    assert cache.get(keys[0]) is ONE
    cache.put(keys[3], ONE)
    assert [cache.get(key) is ONE for key in keys] == [True, False, True, True]
    assert (len(cache), cache.hits, cache.misses) == (3, 4, 1)


def test_many_findings_weigh_more() -> None:
    cache = Cache("digest", entries=10)
    heavy = {"pii": Judgement(findings=(Finding("X", 0, 1, 0.5),) * 48)}
    keys = [cache.key("", "prompt", {"a"}, str(number)) for number in range(6)]
    for key in keys[:5]:
        cache.put(key, ONE)
    cache.put(keys[5], heavy)  # 7 of 10
    assert [cache.get(key) is not None for key in keys] == [False, False, True, True, True, True]
    cache.put(keys[5], ONE)
    assert cache._weight == len(cache) == 4
    cache.put(b"x" * 16, {"pii": Judgement(findings=(Finding("X", 0, 1, 0.5),) * 800)})
    assert len(cache) == 4


def test_what_is_too_long_is_not_looked_up() -> None:
    cache = Cache("digest")
    for text, kept in (("a" * LONGEST, True), ("a" * (LONGEST + 1), False)):
        key = cache.key("", "prompt", {"a"}, text)
        cache.put(key, ONE)
        assert (cache.get(key) is ONE) == kept
    off = Cache("digest", entries=0)
    off.put(off.key("", "prompt", {"a"}, "text"), ONE)
    assert len(off) == 0


def test_no_text_is_kept() -> None:
    cache = Cache("digest")
    cache.put(cache.key("tenant", "prompt", {"a"}, "a very secret text"), ONE)
    assert "secret" not in repr(vars(cache))
