"""The growth fit, and that CAPACITY.md says what was measured."""

import dataclasses
import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


def script(name: str) -> ModuleType:
    monkeypatch_path = pytest.MonkeyPatch()
    monkeypatch_path.syspath_prepend(str(ROOT / "benchmarks"))
    spec = importlib.util.spec_from_file_location(name, ROOT / "benchmarks" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch_path.undo()
    return module


@pytest.fixture(scope="module")
def scale() -> ModuleType:
    return script("scale")


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_the_fit_finds_how_a_cost_grows(scale, power) -> None:
    sizes = [100.0, 200.0, 400.0, 800.0]
    found = scale.fit(sizes, [3 + 0.02 * size**power for size in sizes])
    assert found["exponent"] == pytest.approx(power)
    assert found["spread"] == pytest.approx(0, abs=1e-6)
    if power == 1.0:
        assert found["fixed"] == pytest.approx(3)
        assert found["rate"] == pytest.approx(50)


def test_a_cost_that_does_not_grow_has_no_rate(scale) -> None:
    found = scale.fit([1.0, 2.0, 4.0], [5.0, 5.0, 5.0])
    assert found["exponent"] is None
    assert found["fixed"] == pytest.approx(5)


def test_the_document_says_what_was_measured(scale) -> None:
    recorded = json.loads((ROOT / "cluster" / "capacity.json").read_text())
    text = (ROOT / "cluster" / "CAPACITY.md").read_text()
    between = text.partition("<!-- tables -->\n")[2].partition("<!-- end -->")[0]
    assert between.strip() == scale.document(recorded).strip()
    assert len(recorded["factors"]) >= 4


def test_the_arithmetic_of_a_step(scale) -> None:
    recorded = json.loads((ROOT / "cluster" / "capacity.json").read_text())
    found = scale.steps(recorded)
    seconds, how = found["ingest: tracks"]
    assert seconds == pytest.approx(1_000_000 / recorded["rates"]["files_per_cpu_second"])
    assert how.startswith("1,000,000 / ")
    twice = scale.CANDIDATES * 2 * scale.FULL["users"]
    per_pair = recorded["rates"]["ranking_seconds_per_user_and_song"]
    assert found["recommend"][0] * 2 == pytest.approx(twice * per_pair)


def test_the_document_says_what_was_measured_of_the_blend() -> None:
    recorded = json.loads((ROOT / "cluster" / "capacity.json").read_text())["blend"]
    text = (ROOT / "cluster" / "CAPACITY.md").read_text()
    between = text.partition("<!-- blend -->\n")[2].partition("<!-- end of blend -->")[0]
    table = script("blend_scale").table(recorded["measured"], recorded["factors"])
    assert between.strip() == table.strip()
    assert len(recorded["factors"]) >= 3


def test_a_cost_at_another_size_is_on_the_line_of_the_larger_ones() -> None:
    found = script("blend_scale").extrapolated
    assert found([1, 2, 4, 8], [100.0, 7.0, 11.0, 19.0], 100) == pytest.approx(203)
    assert found([1, 2, 4], [5.0, 5.0, 4.0], 100) == pytest.approx(4)  # no less than measured
    assert found([10], [3.0], 100) == pytest.approx(30)


def test_the_full_data_is_predicted_by_the_documents_arithmetic(scale) -> None:
    import predictions as module  # type: ignore[import-not-found]

    recorded = json.loads((ROOT / "cluster" / "capacity.json").read_text())
    of_the_data = {name: scale.FULL[name] for name in ("songs", "lyrics", "users", "plays")}
    size = module.Size(
        **of_the_data, labelled=scale.FULL["labelled"], epochs=scale.EPOCHS,
        candidates=scale.CANDIDATES, components=280, base=True, blend=False,
    )  # fmt: skip
    found = module.predictions(recorded, size, 16)
    fits, steps = scale.summary(recorded["measured"]), scale.steps(recorded)
    for stage in ("ingest", "embed", "fuse", "recommend"):
        seconds = sum(each for name, (each, _) in steps.items() if name.startswith(stage))
        fixed = fits[stage]["fixed"]
        assert found[stage]["cpu_seconds"] == pytest.approx(fixed + seconds)
        assert found[stage]["wall_seconds"] == pytest.approx(fixed + seconds / 16)
    assert found["fuse"]["disk_mb"] == pytest.approx(1_000_000 * 280 * 4 / 2**20)
    tiny = module.predictions(recorded, dataclasses.replace(size, base=False, blend=True), 16)
    lyrics, _ = steps["embed: lyrics, roberta-base"]
    assert found["embed"]["cpu_seconds"] - tiny["embed"]["cpu_seconds"] == pytest.approx(lyrics)
    assert tiny["blend"]["worker_mb"] > recorded["blend"]["measured"][-1]["data_mb"]


def test_a_blend_of_a_size_that_was_measured_is_predicted_as_measured() -> None:
    import predictions as module

    recorded = json.loads((ROOT / "cluster" / "capacity.json").read_text())
    measured = recorded["blend"]["measured"][1]
    sizes = {name: measured[name] for name in ("songs", "users", "plays")}
    rest = {"lyrics": 500, "labelled": 0, "epochs": 1, "candidates": 1, "components": 1}
    size = module.Size(**sizes, **rest, base=False, blend=True)
    found = module.predictions(recorded, size, 2)["blend"]
    seconds = sum(part["cpu_seconds"] for part in measured["parts"].values())
    assert found["cpu_seconds"] == pytest.approx(seconds)
