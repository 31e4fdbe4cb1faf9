"""Puts a policy's checks, backends and judges together. Here names become objects, and nowhere else."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

from guardproxy.backends.base import Backend
from guardproxy.backends.rules import Rules
from guardproxy.checks.registry import specs
from guardproxy.checks.runner import ConfiguredCheck, Runner
from guardproxy.errors import ConfigError, PolicyError
from guardproxy.escalation import JudgeClient, JudgeEndpoint
from guardproxy.policy.evaluate import needed
from guardproxy.policy.model import CheckConfig, Policy

BackendMaker = Callable[[], Backend]
BACKENDS: Mapping[str, BackendMaker] = {"rules": Rules.load}
"""How a rung is made; once a worker, however many checks name it."""


def runner_of(policy: Policy, backend: str = "", backends: Mapping[str, BackendMaker] = BACKENDS) -> Runner:
    """A runner for the checks that the policy's rules name.

    `backend`, if given, takes the place of the default ladder of every check that has a model stage and for which the
    policy sets none. Raises PolicyError for a backend that does not exist.
    """
    known = specs()
    made: dict[str, Backend] = {}
    configured: dict[str, ConfiguredCheck] = {}
    for name in dict.fromkeys(check for names in needed(policy).values() for check in names):
        config = policy.checks.get(name) or CheckConfig(name)
        spec = known[name]
        ladder = config.ladder
        if ladder is None:
            ladder = (backend,) if spec.ladder and backend else spec.ladder
        for rung in ladder:
            if rung not in backends:
                raise PolicyError(f"checks.{name}.ladder: there is no backend {rung}; there are: {', '.join(backends)}")
            if rung not in made:
                made[rung] = backends[rung]()
        rungs = tuple(made[rung] for rung in ladder)
        configured[name] = ConfiguredCheck(spec.build(config.options), rungs, config.deadline)
    return Runner(configured)


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
