"""Planning problems made by hand: graphs of every shape, models with known figures, random ones from a seed."""

from random import Random

from grainwise.domain.app import AppSpec, Slo, StageSpec
from grainwise.domain.graph import EachNode, Element, Gathered, Graph, Guard, Input, Merged, Output, Source, StageNode
from grainwise.domain.machine import NOMINAL_PRICES, Capabilities, HopModel, Node, Prices
from grainwise.domain.values import ValueType
from grainwise.planning.problem import Problem
from grainwise.predictors.latency import ColdStartModel, LatencyModel, StageModel
from grainwise.predictors.workload import Workload

NUMBER = ValueType(kind="integer", annotation="int")
SOFT = Capabilities("made", "signals", "invocation", False, 0.1, 1 << 30)
HARD = Capabilities("made-hard", "cgroup2", "instance", True, 0.1, 1 << 30)
NO_HOP = HopModel(0.0, 0.0, 0.0, 0.0, 0.0)
HOP = HopModel(200.0, 50.0, 100.0, 50.0, 30.0)
EVEN = (1.0,) * 7
NOISY = (0.9, 0.95, 1.0, 1.05, 1.1, 1.2, 1.4)


def stage_model(
    fixed_us: float = 5000.0,
    item_us: float = 1000.0,
    size_us: float = 0.0,
    *,
    residuals: tuple[float, ...] = EVEN,
    scales_to: float = 1.0,
    memory_mib: float = 100.0,
) -> StageModel:
    """A stage that runs faster with more cores up to ``scales_to``, and in proportion slower below one."""
    cores = tuple(share for share in (0.25, 0.5, 1.0, 2.0, 4.0, 8.0) if share <= max(1.0, scales_to))
    factors = tuple(1 / share for share in cores)
    return StageModel(fixed_us, item_us, size_us, cores, factors, residuals, 0.1, memory_mib, 50_000.0, 1000.0)


def graph_of(*needs: tuple[int, ...], name: str = "s") -> Graph:
    """A graph without fan-outs: stage ``i`` reads the stages in ``needs[i]``, or the entry value where there are none."""
    stages = tuple(
        StageNode(f"{name}{index}", f"{name}{index}", tuple(Output(other) for other in before) or (Input(0),))
        for index, before in enumerate(needs)
    )
    read = {other for before in needs for other in before}
    sinks = [index for index in range(len(needs)) if index not in read]
    return Graph(("value",), stages, (), tuple(Output(index) for index in sinks), tuple(f"out{index}" for index in sinks))


def chain_graph(count: int) -> Graph:
    """``count`` stages, one after the other."""
    return graph_of(*((index - 1,) if index else () for index in range(count)))


def spec_of(
    graph: Graph, *, slo_ms: float = 1000.0, target: float = 0.99, max_batch: int = 1, batches: tuple[int, ...] = ()
) -> AppSpec:
    """An app on a graph."""
    stages = tuple(
        StageSpec(node.declared, (NUMBER,), NUMBER, max_batch=batches[index] if batches else max_batch)
        for index, node in enumerate(graph.stages)
    )
    return AppSpec("made", Slo(slo_ms, target), graph, stages, (NUMBER,), (NUMBER,) * len(graph.outputs), "source", "digest")


def workload_of(graph: Graph, rate_per_s: float, items: tuple[float, ...] = (), nbytes: float = 1000.0) -> Workload:
    """A mean request with ``items`` executions of each stage."""
    count = len(graph.stages)
    return Workload(rate_per_s, items or (1.0,) * count, (1.0,) * count, (nbytes,) * count, (nbytes,) * len(graph.input_names))


def problem_of(
    spec: AppSpec,
    models: tuple[StageModel, ...],
    *,
    rate_per_s: float = 1.0,
    items: tuple[float, ...] = (),
    nbytes: float = 1000.0,
    hop: HopModel = NO_HOP,
    nodes: tuple[Node, ...] = (Node("here", 4.0, 8000.0),),
    capabilities: Capabilities = SOFT,
    prices: Prices = NOMINAL_PRICES,
) -> Problem:
    """A problem for an app whose stages have these models."""
    return Problem(
        number=1,
        app=spec,
        model=LatencyModel(models, ColdStartModel(50_000.0, 100_000.0), "made", "digest"),
        hop=hop,
        workload=workload_of(spec.graph, rate_per_s, items, nbytes),
        nodes=nodes,
        capabilities=capabilities,
        prices=prices,
    )


def random_dag(rng: Random, count: int) -> Graph:
    """A weakly dense DAG without fan-outs."""
    return graph_of(*(tuple(sorted(rng.sample(range(index), min(index, rng.randint(0, 2))))) for index in range(count)))


def random_graph(rng: Random, count: int) -> Graph:
    """A DAG with fan-outs (also nested) and branches, of about ``count`` stages."""
    stages: list[StageNode] = []
    eaches: list[EachNode] = []

    def add(inputs: list[Source], scope: tuple[int, ...], guards: tuple[Guard, ...]) -> Source:
        name = f"s{len(stages)}"
        stages.append(StageNode(name, name, tuple(inputs), scope, guards))
        return Output(len(stages) - 1)

    def flow(values: list[Source], size: int, scope: tuple[int, ...], guards: tuple[Guard, ...]) -> Source:
        """``size`` stages or more over ``values``; returns the last value."""
        known = list(values)
        made = add([rng.choice(known)], scope, guards)
        size -= 1
        known.append(made)
        while size > 0:
            kind = rng.random()
            if kind < 0.3 and size >= 2 and len(scope) < 2:
                number = len(eaches)
                eaches.append(EachNode(made, made, scope))
                inside = rng.randint(1, size - 1)
                result = flow([Element(number), *known[:1]], inside, (*scope, number), guards)
                eaches[number] = EachNode(made, result, scope)
                made = Gathered(number)
                size -= inside
                known.append(made)
                continue
            if kind < 0.5 and size >= 3 and not guards:
                left = flow(known[-1:], 1, scope, (*guards, Guard(made, "left")))
                right = flow(known[-1:], 1, scope, (*guards, Guard(made, None, ("left",))))
                made = Merged((left, right))
                size -= 2
                known.append(made)
                continue
            made = add([known[-1], *rng.sample(known[:-1], min(len(known) - 1, rng.randint(0, 1)))], scope, guards)
            known.append(made)
            size -= 1
        return made

    last = flow([Input(0)], count, (), ())
    final = add([last], (), ()) if rng.random() < 0.5 or not isinstance(last, Output) else last
    return Graph(("value",), tuple(stages), tuple(eaches), (final,), ("result",))


def random_problem(rng: Random, graph: Graph, *, is_hard: bool | None = None) -> Problem:
    """A problem on a graph in which every effect is drawn: rates, batches, noise, memory, shares, hop."""
    count = len(graph.stages)
    models = tuple(
        stage_model(
            rng.choice((0.0, 2000.0, 20_000.0)),
            rng.choice((500.0, 5000.0, 30_000.0)),
            residuals=rng.choice((EVEN, NOISY)),
            scales_to=rng.choice((1.0, 2.0, 4.0)),
            memory_mib=rng.choice((10.0, 100.0, 600.0)),
        )
        for _ in range(count)
    )
    spec = spec_of(
        graph,
        slo_ms=rng.choice((60.0, 150.0, 400.0, 1000.0)),
        target=rng.choice((0.9, 0.95, 0.99)),
        batches=tuple(rng.choice((1, 1, 2, 4, 8)) for _ in range(count)),
    )
    hard = rng.random() < 0.3 if is_hard is None else is_hard
    return problem_of(
        spec,
        models,
        rate_per_s=rng.choice((0.2, 1.0, 3.0, 10.0, 30.0)),
        items=random_items(rng, graph),
        nbytes=rng.choice((1000.0, 1e6)),
        hop=rng.choice((NO_HOP, HOP, HopModel(2000.0, 500.0, 500.0, 100.0, 60.0))),
        nodes=(Node("here", rng.choice((2.0, 4.0)), rng.choice((700.0, 2000.0, 8000.0))),),
        capabilities=HARD if hard else SOFT,
    )


def random_items(rng: Random, graph: Graph) -> tuple[float, ...]:
    """Executions of each stage per request that agree with its fan-outs and branches."""
    elements = [rng.choice((1.0, 2.5, 6.0)) for _ in graph.eaches]
    chance = rng.choice((0.1, 0.5, 0.8))
    items: list[float] = []
    for node in graph.stages:
        count = 1.0
        for each in node.scope:
            count *= elements[each]
        for guard in node.guards:
            count *= 1 - chance if guard.equals is None else chance
        items.append(count)
    return tuple(items)
