import msgspec
import pytest
from reproduce.granularity.grid import read_grid
from reproduce.granularity.records import Capacity, Cell, Header, Results, Run, Window, read_results, write_results
from reproduce.granularity.selection import BEST_PER_APP, BEST_PER_CELL, HINDSIGHT, ORACLE, WINDOWS, choices
from reproduce.granularity.statistics import compare, summaries, usable, verdicts, winners

RULE = read_grid().study
CELL = Cell(0, "made", ("app",), "http", 1.0, 1.0, "billed", "normal", 0.5, "bursts", 4, "cpu", (1.0,), (100.0,), True)
HEADER = Header(
    1, "smoke", "", "", (), "2026-01-01", "made", 2, {}, (), (101,), (1, 2), 100, 1, 1, "http", "billed", "made"
)  # fmt: skip


def run(way: str, seed: int, attainment: float, cost: float, *, cell: int = 0, windows: tuple[Window, ...] = ()) -> Run:
    fixed = way.startswith("fixed")
    return Run(
        cell=cell, way=way, group="fixed" if fixed else "adaptive", seed=seed,
        purpose="selection" if seed > 100 else "evaluation", offered=100, answered=100, met=round(100 * attainment),
        attainment=attainment, billed_usd_per_1000=cost, provisioned_usd_per_1000=2 * cost, switch_usd_per_1000=0.0,
        p50_ms=1.0, p95_ms=2.0, local_fraction=None, slice_s=1.0, starts=0, regranulations=0, utilisation=0.5, grains=(),
        is_fused=way == "fixed:a+b", is_split=way == "fixed:a | b", windows=windows,
    )  # fmt: skip


def results(*runs: Run, cells: tuple[Cell, ...] = (CELL,), capacities: tuple[Capacity, ...] = ()) -> Results:
    return Results(HEADER, cells, runs, capacities)


TWO = results(
    # On the selection seed fused is best, on the evaluation seeds split is.
    run("fixed:a+b", 101, 0.95, 1.0), run("fixed:a+b", 1, 0.80, 1.0), run("fixed:a+b", 2, 0.82, 1.0),
    run("fixed:a | b", 101, 0.90, 1.0), run("fixed:a | b", 1, 0.90, 1.2), run("fixed:a | b", 2, 0.92, 1.2),
    run("adaptive", 1, 0.91, 1.1), run("adaptive", 2, 0.95, 1.1),
)  # fmt: skip


def test_what_is_chosen_on_the_selection_seeds_is_judged_on_the_others() -> None:
    chosen = choices(TWO, RULE)
    assert {each.way for each in chosen[BEST_PER_CELL][0]} == {"fixed:a+b"}
    assert {each.way for each in chosen[HINDSIGHT][0]} == {"fixed:a | b"}
    assert [each.seed for each in chosen[BEST_PER_CELL][0]] == [1, 2]


def test_the_oracle_takes_each_run_by_itself() -> None:
    assert [each.way for each in choices(TWO, RULE)[ORACLE][0]] == ["adaptive", "adaptive"]


def test_one_granularity_for_all_cells_of_an_app_is_one() -> None:
    second = msgspec.structs.replace(CELL, number=1, slo_factor=1.2)
    both = (*TWO.runs, *(msgspec.structs.replace(each, cell=1) for each in TWO.runs))
    chosen = choices(results(*both, cells=(CELL, second)), RULE)[BEST_PER_APP]
    assert {each.way for runs in chosen.values() for each in runs} == {"fixed:a+b"}
    assert list(chosen) == [0, 1]


def test_windows_are_put_together_from_the_best_of_each() -> None:
    good, bad = Window(50, 50, 0.01, 0.02), Window(50, 10, 0.01, 0.02)
    found = choices(
        results(run("fixed:a+b", 1, 0.6, 0.2, windows=(good, bad)), run("fixed:a | b", 1, 0.6, 0.2, windows=(bad, good))), RULE
    )[WINDOWS][0]
    assert found[0].attainment == 1.0
    assert found[0].billed_usd_per_1000 == pytest.approx(0.2)


def test_differences_are_paired_by_seed() -> None:
    ours = [run("adaptive", seed, 0.5 + seed / 10, 1.0 + seed / 10) for seed in (1, 2, 3)]
    theirs = [run("fixed:a+b", seed, 0.48 + seed / 10, 1.0 + seed / 10) for seed in (3, 2, 1)]
    found = compare(CELL, ours, theirs)
    assert found.points == pytest.approx(2.0)
    assert found.points_low == pytest.approx(2.0)
    assert found.cost_high == pytest.approx(0.0)
    assert found.is_within


def test_the_interval_is_students_one_sided() -> None:
    ours = [run("adaptive", seed, value, 1.0) for seed, value in ((1, 0.50), (2, 0.52))]
    theirs = [run("fixed:a+b", seed, 0.50, 1.0) for seed in (1, 2)]
    found = compare(CELL, ours, theirs)
    # Two differences of 0 and 2 points: mean 1, standard error 1, and 6.3138 is the 95th percentile of t with one degree.
    assert found.points_low == pytest.approx(1 - 6.3138, abs=1e-3)
    assert not found.is_within


def test_a_cell_is_usable_by_its_best_way_alone() -> None:
    low = results(run("fixed:a+b", 1, 0.59, 1.0), run("adaptive", 1, 0.10, 1.0))
    assert usable(low, RULE) == ()
    assert usable(TWO, RULE) == (0,)


def test_ties_are_shown() -> None:
    tied = results(run("fixed:a+b", 1, 0.900, 1.000), run("fixed:a | b", 1, 0.905, 1.005))
    assert winners(tied, RULE)[0].way == "fixed:a+b"
    assert winners(tied, RULE)[0].ties == ("fixed:a | b",)


def test_a_missed_target_is_told() -> None:
    def capacity(way: str, per_s: float) -> Capacity:
        return Capacity("made", "app", 1.0, "http", "billed", way, "fixed", 3, per_s, is_split=way == "fixed:a | b")

    worse = results(*TWO.runs, capacities=(capacity("adaptive", 1.0), capacity("fixed:a | b", 2.0)))
    by_name = {each.name: each for each in verdicts(worse, RULE)}
    assert by_name["capacity at 99 % attainment"].is_met is False
    assert "fixed:a | b" in by_name["capacity at 99 % attainment"].found
    assert by_name["capacity at 99 % attainment over split's"].is_met is False
    assert any(each.theirs == "split" for each in summaries(worse, RULE))


@pytest.mark.parametrize("copies", [1, 3000])
def test_results_are_read_as_they_were_written(tmp_path_factory: pytest.TempPathFactory, copies: int) -> None:
    whole = results(*TWO.runs * copies)
    path = write_results(whole, tmp_path_factory.mktemp("results") / "laptop.json")
    assert path.name == ("laptop.json" if copies == 1 else "laptop.json.gz")
    assert read_results(path.with_name("laptop.json")) == whole
