"""The learned evaluator: what its file holds, what it refuses, where it hands on, and that it corrects the closed form."""

import builtins
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from grainwise.domain.errors import ArtifactError, ConfigurationError, PlatformError
from grainwise.domain.plan import FunctionPlan, Plan
from grainwise.planning.problem import Problem
from grainwise.predictors.analytic import Analytic
from grainwise.predictors.evaluate import evaluate
from grainwise.predictors.features import FEATURES, FEATURES_VERSION, features
from grainwise.predictors.learned import Learned
from grainwise.predictors.predictor_file import Predictor, read, write
from grainwise.predictors.trees import load_lightgbm
from grainwise.simulation.learning import constants, evaluator_for, load, train
from grainwise.simulation.sweep import Cell, Outcome, Swept
from worlds.problems import NOISY, chain_graph, problem_of, spec_of, stage_model

TOO_HIGH = 0.1
"""By how much the made outcomes attain less than the closed form says."""

DEARER = 1.25


def problem(rate_per_s: float = 10.0, stages: int = 2) -> Problem:
    graph = chain_graph(stages)
    return problem_of(
        spec_of(graph, slo_ms=100.0), tuple(stage_model(residuals=NOISY) for _ in range(stages)), rate_per_s=rate_per_s
    )


def plans(stages: int = 2) -> tuple[Plan, Plan]:
    names = tuple(f"s{at}" for at in range(stages))
    fused = Plan("made", (FunctionPlan(names, 1.0, 1, 2, 1, 4),))
    return fused, Plan("made", tuple(FunctionPlan((name,), 1.0, 1, 1, 1, 4) for name in names))


def cells(count: int = 12) -> list[list[Cell]]:
    found = []
    for at in range(count):
        asked = problem(5.0 + 5.0 * at)
        own = []
        for plan, pattern in zip(plans(), ("0+1", "0 | 1"), strict=True):
            predicted = evaluate(asked, plan)
            outcome = Outcome(
                max(0.0, predicted.attainment - TOO_HIGH),
                DEARER * predicted.billed_usd_per_hour,
                DEARER * predicted.provisioned_usd_per_hour,
            )
            own.append(
                Cell(
                    at, "made chain", 2, 0.8, "provisioned", pattern, features(asked, plan), predicted, outcome,
                    predicted.capacity_per_s / 2,
                )
            )  # fmt: skip
        found.append(own)
    return found


def swept(count: int = 12) -> Swept:
    return Swept(FEATURES_VERSION, 7, 100, True, {}, tuple(tuple(own) for own in cells(count)))


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return train(swept())


def test_trees_correct_what_the_closed_form_says(predictor: Predictor) -> None:
    asked = problem(27.0)
    known = evaluate(asked, plans()[0])
    judged = Learned(predictor).judge(asked, plans())[0]
    assert judged.by == "learned"
    assert judged.attainment.value == pytest.approx(known.attainment - TOO_HIGH, abs=0.02)
    assert judged.usd_per_hour.value == pytest.approx(DEARER * known.provisioned_usd_per_hour, rel=0.02)
    assert judged.capacity_per_s is not None
    assert judged.capacity_per_s.value == pytest.approx(known.capacity_per_s / 2, rel=0.02)
    for band in (judged.attainment, judged.usd_per_hour, judged.capacity_per_s):
        assert band.low <= band.value <= band.high


def test_the_same_cells_give_the_same_file_and_the_same_question_the_same_answer(predictor: Predictor) -> None:
    data = write(predictor)
    assert write(train(swept())) == data
    again = read(data)
    assert again == predictor
    assert Learned(again).judge(problem(), plans()) == Learned(predictor).judge(problem(), plans())


def test_the_file_says_where_it_comes_from(predictor: Predictor) -> None:
    assert (predictor.settings, predictor.rows, predictor.seed, predictor.requests) == (12, 24, 7, 100)
    assert [each.source for each in predictor.trained_on] == ["made chain"]
    assert set(predictor.versions) == {"grainwise", "lightgbm", "numpy"}
    assert predictor.held_out["attainment_error"] < predictor.held_out["attainment_error_analytic"]
    assert predictor.held_out["attainment_error_analytic"] == pytest.approx(TOO_HIGH, abs=0.03)
    assert b"\\n" not in write(predictor)


def test_a_question_beyond_the_training_is_handed_on_to_the_closed_form(predictor: Predictor) -> None:
    asked = problem(10.0, stages=3)
    judged = Learned(predictor).judge(asked, plans(3))
    assert [each.by for each in judged] == ["analytic", "analytic"]
    assert "stages is 3, trained on 2 to 2" in judged[0].handed_on
    assert judged[0].attainment == Analytic().judge(asked, plans(3))[0].attainment


def test_a_plan_with_a_gpu_is_handed_on(predictor: Predictor) -> None:
    fused = plans()[0]
    on_gpu = msgspec.structs.replace(fused, functions=(msgspec.structs.replace(fused.functions[0], device="gpu"),))
    judged = Learned(predictor).judge(problem(), (fused, on_gpu))
    assert [each.by for each in judged] == ["learned", "analytic"]
    assert judged[1].handed_on == "s0+s1 runs on a GPU, trained on CPUs alone"


def test_a_predictor_for_other_apps_alone_is_refused(predictor: Predictor) -> None:
    own = msgspec.structs.replace(predictor, is_general=False)
    with pytest.raises(ArtifactError, match=r"Field `trained_on` of the predictor is 'made chain', but the app is 'made'"):
        Learned(own).judge(problem(), plans())
    named = msgspec.structs.replace(own.trained_on[0], source="made", profile_digest="another")
    with pytest.raises(ArtifactError, match=r"trained_on\.profile_digest.*'another'.*'digest'"):
        Learned(msgspec.structs.replace(own, trained_on=(named,))).judge(problem(), plans())
    same = msgspec.structs.replace(named, profile_digest="digest")
    assert Learned(msgspec.structs.replace(own, trained_on=(same,))).judge(problem(), plans())[0].by == "learned"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda raw: raw.update(schema=99), "Field `schema` of the predictor is 99"),
        (lambda raw: raw.update(kind="profile"), "Field `kind` of the predictor is 'profile'"),
        (lambda raw: raw.update(features_version=0), "Field `features_version` of the predictor is 0"),
        (lambda raw: raw["features"][0].update(name="shoes"), "Field `features` of the predictor has 'shoes' at place 0"),
        (lambda raw: raw["features"].pop(), f"has {len(FEATURES) - 1} features"),
        (
            lambda raw: raw["features"][1].update(low=9.0, high=1.0),
            "features.stages.. of the predictor has an impossible range",
        ),
        (lambda raw: raw["trees"].pop("capacity"), "Field `trees.capacity` of the predictor is missing"),
        (lambda raw: raw.update(shoes=1), "malformed"),
    ],
)
def test_a_file_that_differs_is_refused_by_the_name_of_the_field(
    predictor: Predictor, change: Callable[[dict[str, Any]], object], said: str
) -> None:
    raw = msgspec.json.decode(write(predictor))
    change(raw)
    with pytest.raises(ArtifactError, match=said):
        read(msgspec.json.encode(raw))


@pytest.mark.parametrize("data", [b"", b"\xff", b"[]", b"{}", b"[" * 100_000])
def test_what_is_no_predictor_is_refused(data: bytes) -> None:
    with pytest.raises(ArtifactError, match="predictor"):
        read(data)


def test_broken_trees_are_refused(predictor: Predictor) -> None:
    broken = msgspec.structs.replace(predictor, trees={**predictor.trees, "billed": (("tree",), ("version",), ("what",))})
    with pytest.raises(ArtifactError, match=r"Field `trees\.billed`"):
        Learned(broken)
    fewer = msgspec.structs.replace(predictor, trees={**predictor.trees, "billed": predictor.trees["billed"][:1]})
    with pytest.raises(ArtifactError, match="has 1 boosters, not 3"):
        Learned(fewer)


def test_without_lightgbm_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    imported = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.startswith("lightgbm"):
            raise ImportError(name)
        return imported(name, *rest)

    monkeypatch.setattr("importlib.import_module", without)
    with pytest.raises(PlatformError, match=r"grainwise\[learned\]"):
        load_lightgbm()


def test_too_few_settings_are_no_training() -> None:
    with pytest.raises(ConfigurationError, match="2 settings are too few"):
        train(swept(2))


def test_the_constant_is_the_granularity_that_was_best_most_often() -> None:
    def with_cost(setting: list[Cell], *usd_per_hour: float) -> list[Cell]:
        return [
            msgspec.structs.replace(cell, outcome=Outcome(0.9, usd, usd))
            for cell, usd in zip(setting, usd_per_hour, strict=True)
        ]  # fmt: skip

    fused, split = (1.0, 2.0), (2.0, 1.0)
    costs = (fused, split, split)
    assert constants([with_cost(own, *usd) for own, usd in zip(cells(3), costs, strict=True)]) == {"2": "0 | 1"}


def test_the_file_of_the_variable_is_asked(
    predictor: Predictor, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path_factory.mktemp("predictor") / "own.predictor.json"
    path.write_bytes(write(predictor))
    monkeypatch.setenv("GRAINWISE_PREDICTOR", str(path))
    assert evaluator_for(problem()).judge(problem(), plans())[0].by == "learned"
    monkeypatch.setenv("GRAINWISE_PREDICTOR", str(path.with_name("none.json")))
    with pytest.raises(ConfigurationError, match=r"GRAINWISE_PREDICTOR names .*none.json, which cannot be read"):
        evaluator_for(problem())


def test_the_shipped_predictor_can_be_asked() -> None:
    shipped = load()
    assert shipped.predictor.is_general
    assert len(write(shipped.predictor)) < 1_000_000
