"""Every check is known by its spec, and knowing them costs little."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from guardproxy.checks.base import Check
from guardproxy.checks.registry import NAMES, specs
from guardproxy.errors import PolicyError

ROOT = Path(__file__).parents[2]

# What a policy must at least write for a check that cannot guess what is wanted of it.
LEAST = {
    "keywords": {"lists": {"codename": {"words": ["falcon"]}}},
    "language": {"allowed": ["en"], "candidates": ["de"]},
    "length": {"max_characters": 1000},
}


def test_the_order_is_fixed_and_names_are_the_modules_own() -> None:
    assert tuple(specs()) == NAMES
    for name, spec in specs().items():
        assert spec is import_module(f"guardproxy.checks.{name}").SPEC
        assert spec.name == name
        assert spec.summary
        assert spec.summary == spec.summary.strip().rstrip(".")


@pytest.mark.parametrize("name", NAMES)
def test_a_built_check_is_what_its_spec_says(name: str) -> None:
    spec = specs()[name]
    check = spec.build(LEAST.get(name, {}))
    assert isinstance(check, Check)
    assert check.name == name
    assert check.labels
    if not spec.open_labels:
        assert check.labels <= spec.labels


@pytest.mark.parametrize("name", NAMES)
def test_unknown_options_are_errors_that_name_them(name: str) -> None:
    with pytest.raises(PolicyError) as caught:
        specs()[name].build({**LEAST.get(name, {}), "no_such_option": 1})
    assert f"checks.{name}.no_such_option" in str(caught.value)


@pytest.mark.parametrize("name", sorted(LEAST))
def test_checks_that_need_options_say_so(name: str) -> None:
    with pytest.raises(PolicyError, match=rf"checks\.{name}.*write"):
        specs()[name].build({})


def test_knowing_the_checks_loads_neither_detector_nor_tokeniser() -> None:
    program = (
        "import sys; from guardproxy.checks.registry import specs; specs();"
        "heavy = {'lingua', 'tiktoken', 'asyncio', 'aiohttp', 'numpy', 'onnxruntime'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT)
