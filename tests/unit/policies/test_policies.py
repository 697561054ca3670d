"""Each policy by itself: what it decides, and what it says."""

import pytest

from grainwise.domain.because import Because
from grainwise.domain.time import MILLISECOND, SECOND
from grainwise.policies import admission, autoscale, batching, keep_alive, ordering, placement, routing


def test_admission_takes_what_is_within_the_bound():
    view = admission.AdmissionView(9, 10, False, 0, 0.0, 0.0)
    assert admission.decide(view, SECOND) is admission.ACCEPT


def test_admission_refuses_above_the_bound_until_the_predicted_wait_is_over():
    refusal = admission.decide(admission.AdmissionView(10, 10, False, 0, 70_000.0, 0.0), SECOND)
    assert isinstance(refusal, admission.Refuse)
    assert not refusal.is_late
    assert refusal.retry_after_us == 70_000
    assert "in_flight 10" in refusal.because.render()


def test_admission_refuses_what_would_be_late_only_where_the_app_asks_for_it():
    late = {"wait_us": 60_000.0, "work_us": 50_000.0, "deadline": SECOND + 100 * MILLISECOND}
    assert admission.decide(admission.AdmissionView(0, 10, False, **late), SECOND) is admission.ACCEPT
    refusal = admission.decide(admission.AdmissionView(0, 10, True, **late), SECOND)
    assert isinstance(refusal, admission.Refuse)
    assert refusal.is_late


def scale(offered: float = 0.0, backlog_us: float = 0.0, least: int = 0, most: int = 8) -> autoscale.ScaleTo:
    return autoscale.decide(autoscale.ScaleView(offered, backlog_us, 100_000.0, 1, least, most))


@pytest.mark.parametrize(("offered", "instances"), [(0.0, 0), (0.1, 1), (0.75, 1), (0.76, 2), (3.0, 4), (100.0, 8)])
def test_autoscale_keeps_headroom_up_to_the_plan(offered, instances):
    assert scale(offered).instances == instances


def test_autoscale_clears_a_backlog_within_the_patience_and_says_so():
    decision = scale(0.1, backlog_us=250_000.0)
    assert decision.instances == 3
    assert decision.because.rule == "the backlog asks for it"


def test_autoscale_never_goes_below_the_minimum():
    assert scale(least=2).instances == 2


@pytest.mark.parametrize(
    ("items", "max_batch", "able", "expected"),
    [(1, 1, 1, 1), (9, 4, 1, 4), (9, 4, 2, 4), (6, 4, 2, 3), (3, 8, 2, 2), (40, 4, 3, 4)],
)
def test_batching_fills_a_batch_or_shares_out(items, max_batch, able, expected):
    decision = batching.without_waiting(items, max_batch, able)
    assert decision is not None
    assert decision.items == expected


@pytest.mark.parametrize(("items", "able"), [(3, 1), (1, 1), (1, 4)])
def test_batching_may_wait_for_what_fills_no_batch(items, able):
    assert batching.without_waiting(items, 4, able) is None


def waits(**changed: float) -> batching.Dispatch | batching.WaitUntil:
    facts = {
        "items": 2, "max_batch": 8, "oldest": 0, "due": 1_000_000, "remaining_us": 0.0, "fixed_us": 50_000.0, "item_us": 1000.0,
        "items_per_s": 500.0, "wait_bound_fraction": 0.1,
    }  # fmt: skip
    return batching.decide(batching.BatchView(**{**facts, **changed}), 0)


def test_batching_waits_no_longer_than_the_fixed_part_of_a_call():
    assert waits() == batching.WaitUntil(50_000, batching.WAIT_PAYS)


def test_batching_waits_no_longer_than_its_part_of_the_slack():
    assert waits(due=200_000, remaining_us=100_000.0) == batching.WaitUntil(10_000, batching.WAIT_PAYS)


@pytest.mark.parametrize("changed", [{"fixed_us": 0.0}, {"due": 0}, {"items_per_s": 0.0}, {"items_per_s": 5.0}])
def test_batching_does_not_wait_where_it_would_not_pay(changed):
    assert waits(**changed) == batching.Dispatch(2, batching.ALL_READY)


def test_batching_ends_a_wait_that_is_over():
    assert waits(oldest=-60_000) == batching.Dispatch(2, batching.WAIT_OVER)


def test_keep_alive_ends_at_once_what_serves_nothing():
    assert isinstance(keep_alive.decide(keep_alive.IdleView(5, 100, False, True), 6), keep_alive.End)


def test_keep_alive_keeps_what_is_needed_and_what_is_young():
    assert keep_alive.decide(keep_alive.IdleView(5, 100, False, False), 900) == keep_alive.Keep(0)
    assert keep_alive.decide(keep_alive.IdleView(5, 100, True, False), 104) == keep_alive.Keep(105)
    assert isinstance(keep_alive.decide(keep_alive.IdleView(5, 100, True, False), 105), keep_alive.End)


def test_ordering_is_by_due_instant_then_by_arrival():
    ranks = [ordering.decide(due, sequence) for due, sequence in ((5, 1), (3, 3), (3, 2))]
    assert sorted(ranks) == [(3, 2), (3, 3), (5, 1)]


def node(name: str, memory: float, cores: float) -> placement.NodeView:
    return placement.NodeView(name, memory, cores, 4.0)


def test_placement_takes_the_roomiest_node_that_has_cores():
    nodes = [node("a", 900.0, 0.0), node("b", 500.0, 1.0), node("c", 600.0, 1.0)]
    chosen = placement.decide(nodes, 400.0, 0.1, False)
    assert isinstance(chosen, placement.Place)
    assert chosen.node == "c"


def test_placement_spreads_instances_by_what_is_promised_and_spares_nodes_with_devices():
    def view(name: str, memory: float, promised: float, usable: float, has_devices: bool = False) -> placement.NodeView:
        return placement.NodeView(name, memory, usable, usable, (), promised, has_devices)

    def chosen(*views: placement.NodeView) -> str:
        found = placement.decide(views, 400.0, 1.0, False)
        assert isinstance(found, placement.Place)
        return found.node

    assert chosen(view("large", 9000.0, 3.0, 4.0), view("small", 900.0, 1.0, 4.0)) == "small"
    assert chosen(view("large", 9000.0, 3.0, 16.0), view("small", 900.0, 1.0, 4.0)) == "large"
    assert chosen(view("gpu", 9000.0, 0.0, 16.0, True), view("plain", 900.0, 3.0, 4.0)) == "plain"
    assert chosen(view("gpu", 9000.0, 0.0, 16.0, True), view("plain", 300.0, 3.0, 4.0)) == "gpu"


def test_placement_says_how_much_memory_or_how_many_cores_are_missing():
    nodes = [node("a", 900.0, 0.5), node("b", 100.0, 4.0)]
    assert placement.decide(nodes, 1000.0, 1.0, True) == placement.NoRoom(100.0)
    assert placement.decide(nodes, 500.0, 1.0, True) == placement.NoRoom(0.0, 0.5)
    assert placement.decide([], 500.0, 1.0, True) == placement.NoRoom(500.0)
    assert placement.NoRoom(0.0, 0.5).render() == "0.50 cores are missing on the roomiest node"


class Idle:
    def __init__(self, number: int, stages: int, idle_since: int) -> None:
        self.number, self.stages, self.idle_since = number, stages, idle_since


def test_routing_spares_wide_residencies_and_prefers_the_most_recently_used():
    wide, old, recent = Idle(1, 0b111, 9), Idle(2, 0b11, 5), Idle(3, 0b11, 7)
    assert routing.decide(0b11, [wide, old, recent]) is recent
    assert routing.decide(0b100, [wide, old, recent]) is wide
    assert routing.decide(0b1000, [wide, old, recent]) is None
    assert routing.decide(0b1, []) is None


def test_a_reason_renders_its_facts():
    assert Because("because", (("ms", 1.23456789), ("count", 3))).render() == "because: ms 1.23457, count 3"
