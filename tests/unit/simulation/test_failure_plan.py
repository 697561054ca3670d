"""Failures by schedule and at random: read, refused with reasons, and expanded to the same instants for the same seed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grainwise.domain.errors import ConfigurationError
from grainwise.domain.time import SECOND
from grainwise.simulation.failure_plan import (
    MAX_FAILURES,
    Failure,
    FailurePlan,
    PlannedFailure,
    Target,
    expand,
    parse_failures,
    read_failures,
)
from grainwise.workloads.integers import SplitMix64

PINNED = [
    (9544, "slow", 164856520),
    (1994472, "crash", 2280323298),
    (2180575, "crash", 385291137),
    (2616567, "slow", 4056795765),
    (2790655, "crash", 3254527336),
]

FILE = b"""
failures:
  - {kind: crash, mtbf_s: 60, app: text, stage: join}
  - {kind: lose_node, at_s: 30, node: n3, for_s: 60}
"""


def refusal(data: str) -> str:
    with pytest.raises(ConfigurationError) as raised:
        read_failures(data.encode(), "storm.yaml")
    return str(raised.value)


def test_a_file_and_its_short_form_are_the_same_plan() -> None:
    assert read_failures(FILE, "storm.yaml") == parse_failures("crash:mtbf=60s:on=text/join,lose_node:at=30s:node=n3:for=1min")


def test_durations_of_the_short_form_have_units() -> None:
    (entry,) = parse_failures("slow:at=1.5h:for=250ms:factor=2.5:node=n1").entries
    assert entry == PlannedFailure("slow", Target(node="n1"), 5400 * SECOND, None, 250_000, 2.5, 0)


def test_a_schedule_happens_when_it_says_and_not_after_the_run() -> None:
    plan = parse_failures("crash:at=2s,hang:at=1s:for=5s,crash:at=10s")
    failures = expand(plan, 10 * SECOND, SplitMix64(1))
    assert [(one.at_us, one.kind, one.duration_us) for one in failures] == [
        (SECOND, "hang", 5 * SECOND),
        (2 * SECOND, "crash", 0),
    ]


def test_equal_instants_keep_the_order_of_the_plan() -> None:
    plan = parse_failures("return_node:at=5s:node=b,lose_node:at=5s:node=a")
    assert [one.kind for one in expand(plan, 6 * SECOND, SplitMix64(1))] == ["return_node", "lose_node"]


def test_one_seed_gives_these_failures_on_every_interpreter() -> None:
    failures = expand(parse_failures("crash:mtbf=1s,slow:mtbf=2s:for=1s:factor=3"), 3 * SECOND, SplitMix64(7))
    assert [(one.at_us, one.kind, one.pick) for one in failures] == PINNED


@given(st.integers(0, 2**64 - 1))
def test_random_failures_are_sorted_within_the_run_and_repeat(seed: int) -> None:
    plan = parse_failures("crash:mtbf=1s,hang:mtbf=3s:for=1s,lose_node:mtbf=5s:for=2s")
    failures = expand(plan, 20 * SECOND, SplitMix64(seed))
    assert failures == expand(plan, 20 * SECOND, SplitMix64(seed))
    assert failures == sorted(failures, key=lambda one: one.at_us)
    assert all(0 < one.at_us < 20 * SECOND and 0 <= one.pick < 1 << 32 for one in failures)


def test_the_mean_gap_is_the_mean_time_between_failures() -> None:
    failures = expand(parse_failures("crash:mtbf=100ms"), 1000 * SECOND, SplitMix64(3))
    assert 9_700 < len(failures) < 10_300


def test_one_more_entry_moves_no_other_failure() -> None:
    alone = expand(parse_failures("crash:mtbf=1s"), 60 * SECOND, SplitMix64(11))
    both = expand(parse_failures("crash:mtbf=1s,hang:mtbf=1s"), 60 * SECOND, SplitMix64(11))
    assert [one for one in both if one.kind == "crash"] == alone
    assert [one.at_us for one in both if one.kind == "hang"] != [one.at_us for one in alone]


def test_entries_of_one_stream_fail_together() -> None:
    failures = expand(parse_failures("crash:mtbf=1s:stream=4:app=a,crash:mtbf=1s:stream=4:app=b"), 30 * SECOND, SplitMix64(11))
    by_app = {app: [one.at_us for one in failures if one.target.app == app] for app in ("a", "b")}
    assert by_app["a"] == by_app["b"] != []


def test_different_seeds_differ() -> None:
    plan = parse_failures("crash:mtbf=1s")
    assert expand(plan, 60 * SECOND, SplitMix64(1)) != expand(plan, 60 * SECOND, SplitMix64(2))


def test_no_entries_no_failures() -> None:
    assert (
        expand(FailurePlan(), 60 * SECOND, SplitMix64(1)) == expand(read_failures(b"failures: []", "f"), 1, SplitMix64(1)) == []
    )


def test_a_flood_of_failures_is_refused_by_name() -> None:
    with pytest.raises(ConfigurationError, match=rf"more than {MAX_FAILURES}: raise the mean time between failures of crash"):
        expand(FailurePlan((PlannedFailure("crash", mtbf_us=1),)), 10 * SECOND, SplitMix64(1))


@pytest.mark.parametrize(
    ("target", "shown"),
    [
        (Target(), "any"),
        (Target("text"), "text"),
        (Target("text", "join"), "text/join"),
        (Target("text", "join", "n1"), "text/join@n1"),
        (Target(node="n1"), "@n1"),
    ],
)
def test_a_target_reads_as_people_say_it(target: Target, shown: str) -> None:
    assert str(target) == shown


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ("{kind: crash}", "failures[0]: give either at_s, to happen once, or mtbf_s"),
        ("{kind: crash, at_s: 1, mtbf_s: 1}", "failures[0]: give either at_s"),
        ("{kind: explode, at_s: 1}", "failures[0].kind is 'explode': give one of crash, hang, lose_node, return_node, slow"),
        (
            "{kind: crash, at_s: -1}",
            "failures[0].at_s is -1: give a number at least 0 and at most 1e+09 (when it happens once)",
        ),
        ("{kind: crash, at_s: .nan}", "failures[0].at_s is nan: give a number at least 0"),
        ("{kind: crash, mtbf_s: 0}", "failures[0].mtbf_s is 0: give a number at least 1e-06"),
        ("{kind: crash, at: 1}", "failures[0].at is 1, a key that is not known here: use one of kind, at_s, mtbf_s"),
        ("{at_s: 1}", "failures[0].kind is missing: give one of crash"),
        ("{kind: crash, at_s: 1, stage: join}", "stage is 'join' without app"),
        ("{kind: lose_node, at_s: 1, app: text}", "app is 'text' and lose_node strikes a node"),
        ("{kind: slow, at_s: 1}", "slow has no factor"),
        ("{kind: hang, at_s: 1, factor: 2}", "factor is 2.0 and only slow has one"),
        ("{kind: crash, at_s: 1, for_s: 2}", "for_s is 2 and a crash has no length"),
        ("{kind: lose_node, mtbf_s: 1}", "give for_s, after which a lost node comes back"),
    ],
)
def test_an_entry_that_makes_no_sense_is_refused_with_its_reason(entry: str, reason: str) -> None:
    said = refusal(f"failures: [{entry}]")
    assert said.startswith("storm.yaml: ")
    assert reason in said


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "kinds are crash, hang, slow, lose_node, return_node"),
        ("explode:at=1s", "kinds are crash"),
        ("crash:at", "'at' is not KEY=VALUE"),
        ("crash:when=1s", "'when=1s' is not KEY=VALUE with a known key: use one of on, app"),
        ("crash:at=1", "at is '1': give a duration such as 500ms"),
        ("crash:at=1s:at=2s", "at_s is given twice"),
        ("crash:on=a/b:app=c:at=1s", "app is given twice"),
        ("slow:at=1s:factor=fast", "factor is 'fast': give a number"),
        ("slow:at=1s:factor=0.5", "Expected `float` >= 1.0"),
        ("crash:at=1s:stream=1.5", "stream is '1.5': give a whole number"),
        ("lose_node:mtbf=5s", "failure 'lose_node:mtbf=5s': lose_node at random"),
    ],
)
def test_a_short_form_that_makes_no_sense_is_refused_with_its_reason(text: str, reason: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        parse_failures(text)
    assert reason in str(raised.value)


def test_a_failure_is_plain_data() -> None:
    assert Failure(1, "crash", Target(), 0, 1.0, 5) == Failure(1, "crash", Target(), 0, 1.0, 5)
