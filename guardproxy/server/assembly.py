"""Puts a policy's checks, backends and judges together. Here names become objects, and nowhere else."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property

from guardproxy.backends.base import Backend
from guardproxy.backends.rules import Rules
from guardproxy.checks.registry import specs
from guardproxy.checks.runner import ConfiguredCheck, Runner
from guardproxy.config import Settings
from guardproxy.errors import BackendError, ConfigError, PolicyError
from guardproxy.escalation import JudgeClient, JudgeEndpoint
from guardproxy.policy.evaluate import needed
from guardproxy.policy.model import CheckConfig, Policy
from guardproxy.policy.points import Points
from guardproxy.types import Scope

CheckSets = Sequence[frozenset[str]]
"""The checks that a backend is asked for, as they are asked for together: a set for each scope that asks, prompts'
first, no set twice."""

BackendMaker = Callable[[CheckSets], Backend]
"""Raises BackendError, which says why, where the backend cannot serve one of the checks."""

LAST_RUNG = "rules"


def backends_of(settings: Settings) -> Mapping[str, BackendMaker]:
    """How each rung is made; once a worker, however many checks name it."""

    def onnx(sets: CheckSets) -> Backend:
        from guardproxy.backends.onnx.backend import Onnx, cores  # imports ONNX Runtime, which rules do without

        return Onnx.load(settings.adapters or None, sets, workers=max(cores() // settings.workers, 1))

    return {"rules": lambda _: Rules.load(), "onnx": onnx}


BACKENDS: Mapping[str, BackendMaker] = backends_of(Settings())
"""The rungs that exist, made as the default settings say."""


def points_of(settings: Settings) -> Points:
    """The thresholds behind the rates of false positives that a policy may name: those of the release in use.

    Empty where no release comes along. Reading them verifies the whole release, so that waits until one is asked for;
    it then raises ConfigError where the release that is there cannot be used.
    """
    return _Released(settings.adapters)


class _Released(Mapping[str, Mapping[str, Mapping[str, float]]]):
    """The operating points of a release's adapters, by check; read when first looked at."""

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def __getitem__(self, check: str) -> Mapping[str, Mapping[str, float]]:
        return self._read[check]

    def __iter__(self) -> Iterator[str]:
        return iter(self._read)

    def __len__(self) -> int:
        return len(self._read)

    @cached_property
    def _read(self) -> dict[str, dict[str, dict[str, float]]]:
        from guardproxy.backends.onnx.artefact import Artefact, shipped  # imports tokenizers, which rules do without

        try:
            folder = self._folder or shipped()
        except ConfigError:
            return {}
        return {
            check: {
                label: {rate: _threshold(check, label, point.threshold) for rate, point in points.items()}
                for label, points in adapter.calibration.points.items()
            }
            for check, adapter in Artefact.load(folder).adapters.items()
        }


def _threshold(check: str, label: str, value: object) -> float:
    # No score reaches an infinite threshold, and every one reaches what is no number.
    if not (isinstance(value, int | float) and 0 <= value <= 1):
        raise ConfigError(f"the calibration of {check} has a threshold of {label} that is no probability")
    return float(value)


def runner_of(
    policy: Policy,
    backend: str = "",
    backends: Mapping[str, BackendMaker] = BACKENDS,
    *,
    checks: Sequence[str] = (),
    deadline: float = 0.0,
) -> Runner:
    """A runner for the checks that the policy's rules name, or for `checks` on every text if some are given.

    `backend`, if given, takes the place of the default ladder of every check that has a model stage and for which the
    policy sets none; below it, the rules answer when it does not. Raises PolicyError for a backend that does not exist
    or has no such check, and ConfigError where one cannot be loaded. `deadline`, if given, takes the place of
    every check's own, in seconds.
    """
    known = specs()
    wanted = dict.fromkeys(Scope, tuple(checks)) if checks else needed(policy)
    configs = {name: policy.checks.get(name) or CheckConfig(name) for names in wanted.values() for name in names}
    ladders: dict[str, tuple[str, ...]] = {}
    for name, config in configs.items():
        ladder = config.ladder
        if ladder is None:
            ladder = known[name].ladder
            if ladder and backend:
                ladder = tuple(dict.fromkeys((backend, LAST_RUNG)))
        for rung in ladder:
            if rung not in backends:
                raise PolicyError(f"checks.{name}.ladder: there is no backend {rung}; there are: {', '.join(backends)}")
        ladders[name] = ladder
    built = {name: known[name].build(config.options) for name, config in configs.items()}
    made: dict[str, Backend] = {}
    for rung in dict.fromkeys(rung for ladder in ladders.values() for rung in ladder):
        sets = (frozenset(name for name in names if rung in ladders[name]) for names in wanted.values())
        try:
            made[rung] = backends[rung](tuple(dict.fromkeys(each for each in sets if each)))
        except BackendError as error:
            raise PolicyError(f"the backend {rung} cannot serve this policy: {error}") from None
    return Runner(
        {
            name: ConfiguredCheck(built[name], tuple(made[rung] for rung in ladders[name]), deadline or config.deadline)
            for name, config in configs.items()
        }
    )


def judges_of(policy: Policy) -> dict[str, JudgeClient]:
    """A client for each of the policy's judges. Raises ConfigError where a key's environment variable is not set."""
    clients: dict[str, JudgeClient] = {}
    for judge in policy.judges.values():
        if judge.key_env and judge.key_env not in os.environ:
            raise ConfigError(
                f"the judge {judge.name} needs the environment variable {judge.key_env}, which is not set"
            )
        key = os.environ.get(judge.key_env, "") if judge.key_env else ""
        endpoint = JudgeEndpoint(judge.url, judge.model, key, judge.deadline, judge.threshold)
        clients[judge.name] = JudgeClient(endpoint)
    return clients
