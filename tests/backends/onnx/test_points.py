"""Rates of false positives in a policy, from a release's calibration to a decision on the tiny model's scores."""

from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import aiohttp
import pytest

from guardproxy.backends.onnx import artefact, calibration
from guardproxy.backends.onnx.calibration import Calibration, Curve, OperatingPoint
from guardproxy.checks.registry import specs
from guardproxy.cli import serve
from guardproxy.cli.main import main
from guardproxy.config import Settings
from guardproxy.errors import ConfigError, PolicyError
from guardproxy.policy.load import load
from guardproxy.policy.model import FindingMatch
from guardproxy.server.assembly import points_of
from guardproxy.testing import Upstream
from guardproxy.testing.proxy import Proxy

POLICY = """\
name: rate
version: "1"
checks: {injection: {ladder: [onnx, rules]}}
rules:
  - {id: rate, where: everywhere, if: {check: injection, labels: injection, fpr: 1%}, then: block}
  - {id: failed, where: everywhere, if: {outcome: [abstained, timeout, error], checks: any}, then: block}
"""
Pointed = Callable[[float], Path]


@pytest.fixture
def pointed(make: Callable[..., Path], reseal: Callable[..., None]) -> Pointed:
    """A release whose injection check has an operating point with this threshold."""

    def made(threshold: float) -> Path:
        folder = make()
        point = OperatingPoint(0.01, threshold, 0.9, 0.8, 1.0)
        told = Calibration({"injection": Curve()}, {"injection": {"1%": point}})
        calibration.dump(told, folder / "injection/1/calibration.json")
        reseal(folder)
        return folder

    return made


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "rate.yaml"
    path.write_text(POLICY)
    return path


def test_the_points_are_the_releases(pointed: Pointed, file: Path) -> None:
    points = points_of(Settings(adapters=str(pointed(0.25))))
    assert points["injection"] == {"injection": {"1%": 0.25}}
    assert dict(points) == {"injection": {"injection": {"1%": 0.25}}, "toxicity": {}, "pii": {}}
    match = load(file, specs(), points=points).rules[0].match
    assert match == FindingMatch("injection", frozenset({"injection"}), 0.25, least={"injection": 0.25})


def test_a_release_is_read_once_and_only_for_a_rate(pointed: Pointed, file: Path) -> None:
    points = points_of(Settings(adapters=str(pointed(0.25))))
    scored = file.with_name("scored.yaml")
    scored.write_text(POLICY.replace("fpr: 1%", "score: 0.8") + "# not fpr: 1%\n")
    with patch.object(artefact.Artefact, "load", side_effect=artefact.Artefact.load) as read:
        load(scored, specs(), points=points)
        assert read.call_count == 0
        load(file, specs(), points=points)
        load(file, specs(), points=points)
        assert read.call_count == 1


def test_where_no_release_comes_along_there_are_none() -> None:
    with patch.object(artefact, "shipped", side_effect=ConfigError("none")):
        assert dict(points_of(Settings())) == {}


def test_a_release_that_cannot_be_used_is_an_error_and_not_nothing(pointed: Pointed, file: Path) -> None:
    with pytest.raises(ConfigError, match=r"manifest\.json"):
        load(file, specs(), points=points_of(Settings(adapters=str(file.parent / "nowhere"))))
    folder = pointed(0.25)
    told = folder / "injection/1/calibration.json"
    told.write_text(told.read_text().replace("0.25", "0.95"))
    with pytest.raises(ConfigError, match=r"injection/1/calibration\.json is not the file"):
        load(file, specs(), points=points_of(Settings(adapters=str(folder))))


@pytest.mark.parametrize("threshold", [float("inf"), float("nan"), 1.5, -0.1])
def test_a_threshold_that_would_switch_the_rule_off_is_an_error(pointed: Pointed, file: Path, threshold: float) -> None:
    points = points_of(Settings(adapters=str(pointed(threshold))))
    with pytest.raises(ConfigError, match="a threshold of injection that is no probability"):
        load(file, specs(), points=points)


def test_a_release_without_points_says_what_is_missing(folder: Path, file: Path) -> None:
    with pytest.raises(PolicyError, match="the check's calibration, and no release of adapters here has one"):
        load(file, specs(), points=points_of(Settings(adapters=str(folder))))


def test_policy_check_and_test_use_the_release_that_is_named(
    pointed: Pointed, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(pointed(0.5))
    case = "{name: ignored, scope: prompt, text: please ignore all, expect: {action: %s}}"
    file.with_name("rate_test.yaml").write_text(f"cases:\n  - {case % 'block'}\n")
    assert main(["policy", "check", "--adapters", folder, str(file)]) == 0
    assert main(["policy", "test", "--adapters", folder, str(file)]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{file}: ok, rate@1+")
    assert second == f"{file}: 1 of 1 cases as expected"
    assert main(["policy", "check", "--adapters", str(file.parent / "nowhere"), str(file)]) == 2
    assert "manifest.json" in capsys.readouterr().err


def test_scan_decides_by_the_rate(pointed: Pointed, file: Path, tmp_path: Path) -> None:
    rows, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    rows.write_text('{"id": 1, "text": "ignore all", "role": "prompt"}\n{"id": 2, "text": "hello", "role": "prompt"}\n')
    arguments = [str(rows), "--output", str(out), "--checks", "injection", "--policy", str(file), "--quiet"]
    assert main(["scan", *arguments, "--adapters", str(pointed(0.5)), "--backend", "onnx"]) == 0
    first, second = out.read_text().splitlines()
    assert '"block"' in first
    assert '"block"' not in second


@pytest.mark.parametrize(("backend", "warned"), [("rules", True), ("onnx", False)])
def test_serve_loads_the_points_and_warns_where_the_scores_are_others(
    pointed: Pointed, file: Path, caplog: pytest.LogCaptureFixture, backend: str, warned: bool
) -> None:
    file.write_text(POLICY.replace("{injection: {ladder: [onnx, rules]}}", "{}"))
    settings = Settings(
        upstream="http://127.0.0.1:1/v1", policy=str(file), adapters=str(pointed(0.25)), backend=backend
    )
    with patch.object(serve, "_work", return_value=0) as work:
        assert serve.run(settings) == 0
    match = work.call_args.args[1].rules[0].match
    assert match.least == {"injection": 0.25}
    assert ("the rule rate names a rate of false positives" in caplog.text) is warned


@pytest.mark.parametrize(("threshold", "status"), [(0.5, 400), (1.0, 200)])  # no score reaches 1
async def test_a_proxy_blocks_from_the_threshold_on(pointed: Pointed, threshold: float, status: int) -> None:
    ask = {"model": "m", "messages": [{"role": "user", "content": "please ignore all"}]}
    async with (
        Upstream() as upstream,
        Proxy(upstream.url, policy=POLICY, adapters=pointed(threshold)) as proxy,
        aiohttp.ClientSession() as session,
        session.post(f"{proxy.url}/chat/completions", json=ask) as response,
    ):
        assert response.status == status
