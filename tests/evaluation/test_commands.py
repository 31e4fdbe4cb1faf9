"""calibrate and evaluate, on a tiny release whose faults are known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")

from guardproxy.backends.onnx.artefact import Artefact
from guardproxy.cli.main import main
from guardproxy.evaluation import datasets, selection
from guardproxy.evaluation.calibrate import How, calibrate, marked_by, weights_of
from guardproxy.evaluation.datasets import Row, Span
from guardproxy.evaluation.evaluate import MICRO, evaluate, evaluate_entities
from guardproxy.evaluation.judging import Found, Judged, identity

PNG = b"\x89PNG\r\n\x1a\n"


def fake(scale: float, shift: float, rows: int, seed: int = 0) -> tuple[list[Row], list[Judged]]:
    """Rows whose truth follows sigmoid(scale * logit + shift)."""
    random = np.random.default_rng(seed)
    logits = random.normal(0, 3, rows)
    truth = random.random(rows) < 1 / (1 + np.exp(-scale * logits - shift))
    made = [
        Row(f"{seed}-{n}", f"text {n}", "prompt", "en", "own", {"injection": int(t)}, "injection/x", "dev")
        for n, t in enumerate(truth)
    ]
    return made, [Judged({"injection": np.array([value])}) for value in logits]


class Fake:
    labels: ClassVar = {"injection": ("injection",), "pii": ("PERSON", "ADDRESS")}


def test_calibration_finds_a_known_curve_and_the_error_falls() -> None:
    rows, judged = fake(0.4, -1.0, 6000)
    report = calibrate("injection", ("injection",), rows, judged, How())
    curve = report.calibration.curves["injection"]
    assert (curve.scale, curve.shift) == pytest.approx((0.4, -1.0), abs=0.08)
    (told,) = report.told
    assert told.ece_before.value > 0.1
    assert told.ece_after.value < 0.03
    assert told.ece_after.high < told.ece_before.low
    assert told.width_after < told.width_before
    assert not told.warnings


def test_a_prior_makes_scores_rarer_and_keeps_what_is_found() -> None:
    rows, judged = fake(0.8, -1.0, 6000)
    plain = calibrate("injection", ("injection",), rows, judged, How())
    rare = calibrate("injection", ("injection",), rows, judged, How(prior=0.01))
    assert rare.calibration.curves["injection"].prior == pytest.approx(0.01)
    for name, point in plain.calibration.points["injection"].items():
        other = rare.calibration.points["injection"][name]
        assert other.threshold < point.threshold
        assert other.recall == point.recall
    assert rare.told[0].ece_after.value < 0.01


def test_a_thin_label_has_the_pooled_curve_and_says_so() -> None:
    random = np.random.default_rng(0)
    labels = ("injection", "direct", "encoded")
    rows, judged = [], []
    for number in range(900):
        direct, encoded = number % 3 == 0, number % 180 == 1
        true = {"injection": int(direct or encoded), "direct": int(direct), "encoded": int(encoded)}
        rows.append(Row(f"r{number}", "t", "prompt", "en", "own", true, "injection/x", "dev"))
        judged.append(Judged({"injection": np.array([random.normal(2 * value - 1, 1) for value in true.values()])}))
    report = calibrate("injection", labels, rows, judged, How())
    told = {each.label: each for each in report.told}
    assert told["encoded"].method == "pooled"
    assert "5 true of 900" in told["encoded"].warnings[0]
    assert told["direct"].method in ("platt", "temperature")
    assert set(report.calibration.curves) == set(labels)


def test_a_source_weighs_by_the_root_of_its_rows() -> None:
    weights = weights_of(["a"] * 100 + ["b"] * 4)
    assert weights[:100].sum() / weights[100:].sum() == pytest.approx(10 / 2)
    assert weights.mean() == pytest.approx(1)


def people(rows: int, seed: int = 0) -> tuple[list[Row], list[Judged]]:
    """A person in two of three texts, found with a logit that says how probably; and false finds in the others."""
    random = np.random.default_rng(seed)
    made, judged = [], []
    for number in range(rows):
        spans = (Span("PERSON", 5, 10),) if number % 3 else ()
        logit = float(random.normal(0, 2))
        right = random.random() < 1 / (1 + np.exp(-logit - 1))
        found = Found("PERSON", 6, 12, logit) if spans and right else Found("PERSON", 20, 25, logit - 3 * (not spans))
        made.append(
            Row(f"p{number}", "x" * 30, "prompt", "en", "own", {}, "pii/x" if spans else "pii/hard-x", "dev", spans)
        )
        judged.append(Judged({}, (found,), (found, Found("EMAIL_ADDRESS", 26, 29, 4.0, formed=True))))
    return made, judged


def test_entities_are_calibrated_by_whether_they_are_right() -> None:
    rows, judged = people(3000)
    report = calibrate("pii", ("PERSON", "ADDRESS"), rows, judged, How())
    told = {each.label: each for each in report.told}
    assert told["PERSON"].ece_after.value < 0.03 < told["PERSON"].ece_before.value
    assert told["PERSON"].rows == 3000
    for name, point in report.calibration.points["PERSON"].items():
        curve = report.calibration.curves["PERSON"]
        clean = [
            float(curve(np.array(each.found[0].logit))) for row, each in zip(rows, judged, strict=True) if not row.spans
        ]
        assert np.mean(np.array(clean) >= point.threshold) <= float(name.removesuffix("%")) / 100
        assert 0 < point.recall_low <= point.recall <= point.recall_high < 1
    assert set(report.calibration.curves) == {"PERSON", "ADDRESS"}
    assert report.calibration.points["ADDRESS"] == {}


def test_entities_are_measured_by_what_their_source_marks() -> None:
    rows, judged = people(300)
    rows = [*rows, Row("q", "x" * 30, "prompt", "en", "marks nothing", {}, spans=())]
    judged = [*judged, Judged({}, (Found("PERSON", 0, 4, 9.0),), (Found("PERSON", 0, 4, 9.0),))]
    measured = evaluate_entities(("PERSON", "ADDRESS"), rows, judged, identity(Fake())["pii"], set())  # type: ignore[arg-type]
    cell = measured.find(MICRO, "all", "all")
    assert cell is not None
    assert cell.rows == 301
    assert cell.positives == 200
    pairs = [(row, each.found[0]) for row, each in zip(rows, judged, strict=True)]
    right = sum(row.spans != () and found.start == 6 and found.logit >= 0 for row, found in pairs)
    given = sum(each.found[0].logit >= 0 for each in judged[:-1])
    assert cell.figures["relaxed f1, model alone"].value == pytest.approx(2 * right / (given + 200))
    assert cell.figures["strict f1, model alone"].value == 0
    assert cell.figures["relaxed f1, with forms"].value == cell.figures["relaxed f1, model alone"].value
    clean = [each.found[0].logit >= 0 for row, each in zip(rows, judged, strict=True) if not row.spans]
    assert cell.figures["false finds, model alone"].value == pytest.approx(sum(clean[:-1]) / len(clean))
    assert marked_by(rows) == {"own": {"PERSON"}, "marks nothing": frozenset()}
    assert {c.group for c in measured.cells if c.kind == "look-alikes"} == {"pii/hard-x"}


def test_abstentions_are_counted_beside_the_figures() -> None:
    rows, judged = fake(1.0, 0.0, 400)
    judged[:40] = [Judged({"injection": np.array([np.nan])}, abstained={"injection": "language"})] * 40
    measured = evaluate("injection", ("injection",), rows, judged, identity(Fake())["injection"], set())  # type: ignore[arg-type]
    cell = measured.find("injection", "all", "all")
    assert cell is not None
    assert (cell.rows, cell.abstained) == (360, 40)


def test_only_rows_that_were_not_learnt_are_measured(data: Path) -> None:
    rows = datasets.parted(datasets.read_all([data]))
    held = selection.measured(rows, {"seen"})
    assert {row.split for row in held if row.set} == {"dev", "test"}
    assert {row.split for row in held if row.source == "seen"} == {"dev"}
    assert len([row for row in held if row.source == "other"]) > 290
    assert {selection.status(row, {"seen"}) for row in held} == {
        "own, dev",
        "own, test",
        "trained on, rows set aside",
        "never trained on",
    }
    assert {row.source for row in selection.development(rows, {"seen"})} == {"own-words", "own-names", "seen"}


def test_a_row_that_is_nearly_one_learnt_is_not_measured() -> None:
    learnt = Row("a", "the quick brown fox jumps over the lazy dog again", "prompt", "en", "own", {}, "s/x", "train")
    twin = Row("b", "The quick brown fox jumps over the lazy dog again!", "prompt", "en", "own", {}, "s/x", "test")
    other = Row("c", "something else that has nothing to do with any of it", "prompt", "en", "own", {}, "s/x", "test")
    assert [row.id for row in selection.measured([learnt, twin, other], set())] == ["c"]
    assert [row.id for row in selection.measured([twin, other], set())] == ["b", "c"]


def test_large_sources_are_cut_by_id() -> None:
    rows = [Row(f"r{n}", f"{n} {n * 7919} is a number {n**3}", "prompt", "en", "big", {"unsafe": 0}) for n in range(90)]
    first = selection.measured(rows, set(), most=20)
    assert len(first) == 20
    assert {row.id for row in first} == {row.id for row in selection.measured(rows[::-1], set(), most=20)}


def test_calibrate_writes_what_is_loaded_again(release: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = Artefact.load(release)
    command = ["calibrate", "--adapters", str(release), "--data", str(data), "--quiet"]
    assert main(command) == 0
    out = capsys.readouterr().out
    assert "toxicity: " in out
    assert "recall at 0.5/1/2/5 % false" in out
    after = Artefact.load(release)
    assert after.digest != before.digest
    curve = after.adapters["toxicity"].calibration.curves["unsafe"]
    assert 0 < curve.scale < 1
    assert set(after.adapters["injection"].calibration.points["injection"]) == {"1%", "2%", "5%"}
    assert after.adapters["pii"].calibration.curves["PERSON"].scale > 0
    changed = {name for name, digest in after.files.items() if before.files[name] != digest}
    assert changed == {f"{check}/1/calibration.json" for check in ("toxicity", "injection", "pii")}
    for check in ("toxicity", "injection", "pii"):
        picture = release / "report" / f"reliability-{check}.png"
        assert picture.read_bytes().startswith(PNG)
        assert picture.stat().st_size > 10_000
        assert "<svg" in picture.with_suffix(".svg").read_text()
        assert json.loads((release / "report" / f"calibration-{check}.json").read_text())
    again = {path: path.read_bytes() for path in release.rglob("*") if path.is_file()}
    assert main([*command, "injection"]) == 0
    assert {path: path.read_bytes() for path in again} == again


def test_evaluate_reports(release: Path, data: Path, tmp_path: Path) -> None:
    assert main(["calibrate", "toxicity", "--adapters", str(release), "--data", str(data), "--quiet"]) == 0
    before = Artefact.load(release).files
    command = ["evaluate", "--adapters", str(release), "--data", str(data), "--quiet", "--date", "2026-02-03"]
    assert main([*command, "--output", str(tmp_path / "out")]) == 0
    out = tmp_path / "out"
    text = (out / "report.md").read_text()
    for piece in ("2026-02-03", "own, test", "other (never trained on)", "seen (trained on, rows set aside)", "| de |"):
        assert piece in text
    assert "toxicity/hard-words" in text
    assert "/work" not in text
    assert str(tmp_path) not in text
    told = json.loads((out / "report.json").read_text())
    assert told["trained"]["toxicity"] == ["seen"]
    cells = {(c["label"], c["kind"], c["group"]): c for m in told["measured"] for c in m["cells"]}
    own, other = cells["unsafe", "rows", "own, test"], cells["unsafe", "source", "other"]
    assert own["figures"]["f1"]["value"] == pytest.approx(0.875, abs=0.03)
    assert other["figures"]["f1"]["value"] == 1
    assert other["status"] == "never trained on"
    assert cells["injection", "all", "all"]["figures"]["auprc"]["value"] > 0.99
    entities = cells[MICRO, "rows", "own, test"]
    assert 0.9 < entities["figures"]["strict f1, model alone"]["value"] < 1
    assert told["latency"]
    assert all(0 < each["p50"] <= each["p95"] for each in told["latency"])
    names = {path.name for path in out.iterdir()}
    for name in (
        "precision-recall-toxicity",
        "look-alikes-toxicity",
        "measured-reliability-injection",
        "look-alikes-pii",
    ):
        assert (out / f"{name}.png").read_bytes().startswith(PNG)
        assert f"{name}.svg" in names
    after = Artefact.load(release)
    assert set(after.files) - set(before) == {f"{check}/1/eval.json" for check in ("toxicity", "injection", "pii")}
    kept = json.loads((release / "toxicity" / "1" / "eval.json").read_text())
    assert {cell["label"] for cell in kept["cells"]} == {"unsafe", "toxic"}


def test_evaluate_with_rules(data: Path, tmp_path: Path) -> None:
    command = ["evaluate", "injection", "--backend", "rules", "--data", str(data), "--quiet"]
    assert main([*command, "--output", str(tmp_path)]) == 0
    assert "Backend rules" in (tmp_path / "report.md").read_text()


def test_mistakes_are_named(release: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--adapters", str(release), "--data", str(data)]
    for command, word in (
        (["evaluate", "toxicty", *given], "did you mean"),
        (["calibrate", "compliance", *given], "there is no model for compliance"),
        (["evaluate", *given, "--splits", "all"], "--splits"),
        (["calibrate", *given, "--prior", "1.5"], "--prior"),
        (["calibrate", "--adapters", str(release), "--data", "nowhere"], "no folder"),
        (["calibrate", "--adapters", str(data), "--data", str(data)], "manifest.json"),
    ):
        assert main(command) == 2
        assert word in capsys.readouterr().err
