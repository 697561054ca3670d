"""Random small apps under random loads and failures: every numbered invariant is checked after every event.

A run is a function of its seed: one or two random apps, a random granularity of each, one to three machines, open arrivals or
users who wait, cancellations, changes of plan by command and by the planner, and failures of every kind. Afterwards every
request has ended once, nothing is kept of it, and once everything idle has ended no more instances are left than the plan
keeps. ``python -m validation campaign --seed N`` runs one seed alone and says what it was.
"""

import traceback
from collections import Counter
from collections.abc import Sequence

from msgspec import Struct

from grainwise.control.actions import Action, KillInstance, Reject, Respond, StartInstance
from grainwise.control.controller import Controller
from grainwise.control.events import Event, InstanceFailed, InvocationDone, PlanReady
from grainwise.control.invariants import Monitor, check_state
from grainwise.domain.errors import CapacityError
from grainwise.domain.plan import render_grain
from grainwise.domain.time import MILLISECOND, SECOND
from grainwise.simulation.loop import ARRIVAL
from grainwise.simulation.run import Simulation
from grainwise.workloads.traffic import Arrival
from validation.measuring import Check, Part, run_jobs
from validation.random_runs import KINDS, Drawn, draw

RUNS = 1000
CHUNK = 20
MAX_ASKED = 200
SETTLE_US = 400 * SECOND
"""After the last answer: long enough for every keep-alive, retry and limit of this campaign to be over."""


class CampaignError(AssertionError):
    """A claim of the campaign does not hold."""


class Outcome(Struct):
    """What a seed came to; ``error`` is empty where everything held."""

    seed: int
    requests: int = 0
    answered: int = 0
    rejected: int = 0
    cancelled: int = 0
    struck: int = 0
    plans: int = 0
    events: int = 0
    is_roomless: bool = False
    is_counted: bool = False
    error: str = ""


class Watch:
    """Sees every event of a run: the invariants, how often each request ended, how often each stage ran."""

    def __init__(self) -> None:
        self.monitor = Monitor()
        self.ended: Counter[int] = Counter()
        self.executed: Counter[tuple[str, int]] = Counter()
        self.answered: set[int] = set()
        self.failed = 0
        self.plans = 0
        self.controller: Controller | None = None
        self._app_of: dict[int, str] = {}

    def observe(self, event: Event, actions: Sequence[Action], now: int) -> None:
        """See one event."""
        if isinstance(event, InvocationDone):
            for span in event.spans:
                self.executed[self._app_of[event.instance], span.stage] += span.items
        self.failed += isinstance(event, InstanceFailed)
        self.plans += isinstance(event, PlanReady)
        for action in actions:
            if isinstance(action, StartInstance):
                self._app_of[action.instance] = action.app
            elif isinstance(action, Respond | Reject):
                self.ended[action.request] += 1
                if isinstance(action, Respond):
                    self.answered.add(action.request)
            elif isinstance(action, KillInstance):
                self.failed += 1
        self.monitor.observe(event, actions, now)
        if self.controller is not None:
            check_state(self.controller, self.monitor)


def run(seed: int) -> Outcome:
    """One seed, with everything checked."""
    drawn, outcome, watch = draw(seed), Outcome(seed), Watch()
    cancels, asked = dict(drawn.cancels), 0
    cancelled: set[int] = set()
    kind_of = {number: (seed + number * number) % KINDS for number in range(1, 2000)}

    def on_end(arrival: Arrival, now: int) -> Arrival | None:
        nonlocal asked
        asked += 1
        if drawn.pool is None or arrival.user < 0 or asked > MAX_ASKED:
            return None
        return drawn.pool.next(arrival.user, now + MILLISECOND)

    def on_offer(number: int, arrival: Arrival) -> None:
        offered[number] = arrival.app
        if number in cancels:
            simulation.loop.schedule(simulation.loop.now + cancels[number], ARRIVAL, cancel, number)

    def cancel(number: int) -> None:
        if simulation.cancel(number):
            cancelled.add(number)

    offered: dict[int, str] = {}
    first = [] if drawn.pool is None else drawn.pool.first(seed)
    arrivals = iter(sorted((*drawn.arrivals, *first), key=lambda arrival: arrival.at))
    simulation = Simulation(
        drawn.scenario, arrivals, on_end=on_end, on_offer=on_offer, kind_of=kind_of.__getitem__, observers=(watch.observe,)
    )
    watch.controller = simulation.controller
    for at, command in drawn.commands:
        # The warm-up takes a while of its own, so that some commands come during it.
        simulation.loop.schedule(2 * SECOND + at, ARRIVAL, simulation.loop.post, command)
    try:
        simulation.run()
    except CapacityError:
        outcome.is_roomless = True
        return outcome
    finally:
        outcome.events = simulation.loop.events
    simulation.loop.run_until(simulation.loop.now + SETTLE_US)
    outcome.requests, outcome.plans = len(offered), watch.plans
    outcome.answered, outcome.cancelled = len(watch.answered), len(cancelled)
    outcome.rejected = len(watch.ended) - outcome.answered
    outcome.struck = simulation.failing.struck
    _check_ends(simulation, watch, offered, cancelled)
    if not watch.failed and not cancelled and not outcome.rejected:
        outcome.is_counted = True
        _check_executions(drawn, watch, offered, kind_of)
    return outcome


def _check_ends(simulation: Simulation, watch: Watch, offered: dict[int, str], cancelled: set[int]) -> None:
    """Every request ended once, and nothing is left of any."""
    for number in offered:
        ends = watch.ended[number] + (number in cancelled)
        if ends != 1:
            raise CampaignError(f"request {number} of {offered[number]} ended {ends} times")
    if simulation.in_flight or watch.monitor.open_requests:
        raise CampaignError(f"requests {sorted(simulation.in_flight)[:10]} are in flight for ever")
    if simulation.store.live_bytes:
        raise CampaignError(f"{simulation.store.live_bytes} bytes are live after the last request")
    state = simulation.controller.state
    if set(state.instances) != set(simulation.runtime.instances):
        raise CampaignError(
            f"the controller knows instances {sorted(state.instances)}, there are {sorted(simulation.runtime.instances)}"
        )
    for name, app in state.apps.items():
        own = [instance for instance in state.instances.values() if instance.app == name]
        plan = app.plans[app.plan_id]
        is_idle_app_empty = app.deployed.config.scale_to_zero
        kept = 0 if is_idle_app_empty else sum(max(1, function.min_instances) for function in plan.functions)
        if len(own) > kept:
            raise CampaignError(f"{len(own)} instances of {name} are left, its plan keeps {kept}")


def _check_executions(drawn: Drawn, watch: Watch, offered: dict[int, str], kind_of: dict[int, int]) -> None:
    """Where nothing went wrong, each stage ran as often as the flow itself ran it on the same kinds of requests."""
    for app in drawn.scenario.apps:
        kinds = [kind_of[number] for number, name in offered.items() if name == app.spec.name]
        for stage, node in enumerate(app.spec.graph.stages):
            expected = sum(app.kinds[kind].counts[stage] for kind in kinds)
            ran = watch.executed[app.spec.name, stage]
            if ran != expected:
                raise CampaignError(f"stage {node.name} of {app.spec.name} ran {ran} times, the flow runs it {expected} times")


def outcome_of(seed: int) -> Outcome:
    """One seed; what fails is kept as text."""
    try:
        return run(seed)
    except Exception:  # noqa: BLE001 - whatever a run ends with is a finding, and the other runs go on
        return Outcome(seed, error=traceback.format_exc(limit=-6))


def outcomes(seeds: Sequence[int]) -> list[Outcome]:
    """Several seeds in one process."""
    return [outcome_of(seed) for seed in seeds]


def show(seed: int) -> int:
    """One seed, told in words; exit code 1 where it fails."""
    drawn = draw(seed)
    for app in drawn.scenario.apps:
        print(f"{app.spec.name}: {len(app.spec.graph.stages)} stages as {render_grain(app.plan.grain)}; {app.config}")
    for node in drawn.scenario.cluster.nodes:
        print(node)
    for failure in drawn.scenario.failures.entries:
        print(failure)
    print(f"{len(drawn.cancels)} cancellations, {len(drawn.commands)} commands")
    outcome = outcome_of(seed)
    print(outcome.error or outcome)
    return 1 if outcome.error else 0


def validate(runs: int = RUNS) -> Part:
    """Seeds 1 to ``runs``."""
    part = Part("campaign", f"{runs} runs of random apps, loads and failures", ("what", "how many"))
    chunks = [range(start, min(start + CHUNK, runs + 1)) for start in range(1, runs + 1, CHUNK)]
    found, part.cpu_s = run_jobs(outcomes, chunks)
    seen = [outcome for chunk in found for outcome in chunk]
    failing = [outcome for outcome in seen if outcome.error]
    for name in ("requests", "answered", "rejected", "cancelled", "struck", "plans", "events"):
        words = {"struck": "failures that struck", "plans": "plans computed", "events": "events, each checked"}
        part.rows.append((words.get(name, name), f"{sum(getattr(outcome, name) for outcome in seen):,}"))
    part.rows.append(("runs without room to begin", str(sum(outcome.is_roomless for outcome in seen))))
    part.rows.append(("runs whose executions were counted", str(sum(outcome.is_counted for outcome in seen))))
    part.checks.append(Check("runs that break a claim", str(len(failing)), "0", not failing))
    for outcome in failing[:20]:
        last = outcome.error.strip().splitlines()[-1]
        part.failures.append(f"seed {outcome.seed}: {last}; alone: python -m validation campaign --seed {outcome.seed}")
    return part
