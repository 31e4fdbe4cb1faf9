"""`except` stands for all of a check's labels but some, and for nothing that could be misread."""

import pytest

from guardproxy.checks.registry import specs
from guardproxy.errors import PolicyError
from guardproxy.policy.load import parse
from guardproxy.policy.model import FindingMatch

HEAD = "name: x\nversion: 1\nrules:\n  - {id: a, where: prompt, then: flag, if: {check: %s}}\n"


def match(condition: str) -> FindingMatch:
    found = parse(HEAD % condition, specs()).rules[0].match
    assert isinstance(found, FindingMatch)
    return found


def test_all_labels_but_those() -> None:
    found = match("pii, except: [LOCATION, ORGANIZATION], score: 0.7")
    assert found.labels == specs()["pii"].labels - {"LOCATION", "ORGANIZATION"}
    assert found.at_least == 0.7


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        ("pii, except: [LOCATON]", "did you mean `LOCATION`"),
        ("pii, labels: PERSON, except: LOCATION", "cannot stand beside"),
        ("keywords, except: [x]", "labels of the policy's own"),
        ("pii, except: []", "the list is empty"),
    ],
)
def test_what_it_cannot_mean_is_an_error(condition: str, said: str) -> None:
    with pytest.raises(PolicyError, match=said):
        match(condition)
