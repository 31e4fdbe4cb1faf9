"""The checks that exist.

A check is known to the policy and to the command line by being named here, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from types import MappingProxyType

from guardproxy.checks.base import CheckSpec

NAMES = ("pii", "secrets", "toxicity", "injection", "compliance", "keywords", "language", "length", "url")
"""Modules of this package; each has a SPEC."""


@cache
def specs() -> Mapping[str, CheckSpec]:
    """Every check's spec, by name. Imports the checks' modules, so a few tens of milliseconds the first time."""
    found: dict[str, CheckSpec] = {}
    for name in NAMES:
        spec: CheckSpec = import_module(f"guardproxy.checks.{name}").SPEC
        found[spec.name] = spec
    return MappingProxyType(found)
