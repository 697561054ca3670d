"""Instances and what they are charged: memory from start to stop, soft cores while loading or invoking."""

from grainwise.control.actions import KillInstance, LoadStages, StartInstance, StopInstance
from grainwise.control.core import Core
from grainwise.control.state import AppState, Instance, NodeState, PendingStart
from grainwise.domain.because import Because
from grainwise.policies import placement

EPSILON = 1e-9
"""Slack for sums of shares that binary fractions cannot hold exactly."""


class Fleet:
    """Starts, loads, stops and kills instances within the capacity of the nodes."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def of(self, app: AppState) -> list[Instance]:
        """The instances of an app, in the order of their numbers."""
        name = app.deployed.app.name
        return [instance for instance in self._core.state.instances.values() if instance.app == name]

    def serving(self, app: AppState, mask: int) -> list[Instance]:
        """Instances that are ready and hold ``mask``."""
        return [each for each in self.of(app) if each.phase == "ready" and each.stages & mask == mask]

    def coming(self, app: AppState, mask: int) -> int:
        """How many instances that will hold ``mask`` are starting, loading or waiting to start."""
        count = sum(
            1 for each in self.of(app) if each.phase in ("starting", "loading") and (each.stages | each.loading) & mask == mask
        )
        return count + sum(1 for pending in app.pending_starts if pending.stages & mask == mask)

    def memory_mib(self, app: AppState, mask: int) -> float:
        """Predicted resident memory of an instance that holds ``mask``."""
        return app.deployed.model.memory_mib(mask, app.deployed.hop.process_mib)

    def place(self, app: AppState, mask: int, share: float) -> placement.Place | placement.NoRoom:
        """Where an instance with this residency would go."""
        views = [
            placement.NodeView(node.node.name, node.node.memory_mib - node.memory_mib, node.free_cores, node.node.usable_cores)
            for node in self._core.state.nodes.values()
        ]
        hard = app.deployed.capabilities.is_share_hard
        return placement.decide(views, self.memory_mib(app, mask), share, hard)

    def start(self, app: AppState, mask: int, share: float, because: Because) -> int | placement.NoRoom:
        """Start an instance, or say what is missing. Returns its number, 0 when it waits for free cores."""
        verdict = self.place(app, mask, share)
        if isinstance(verdict, placement.NoRoom):
            return verdict
        node = self._core.state.nodes[verdict.node]
        capabilities = app.deployed.capabilities
        load_share = share if capabilities.is_share_hard else min(share, node.free_cores)
        if load_share < min(capabilities.min_cpu_cores, share) - EPSILON:
            app.pending_starts.append(PendingStart(mask, share, because.render()))
            return 0
        state = self._core.state
        number = state.next_instance
        state.next_instance += 1
        memory = self.memory_mib(app, mask)
        instance = Instance(number, app.deployed.app.name, node.node.name, mask, "starting", memory, share, self._core.now)
        state.instances[number] = instance
        node.memory_mib += memory
        self._charge(instance, node, load_share)
        self._core.emit(StartInstance(number, instance.app, mask, instance.node, load_share, memory, because))
        return number

    def start_pending(self, app: AppState) -> None:
        """Start what waited for cores, as far as they are free now."""
        waiting, app.pending_starts = app.pending_starts, []
        for pending in waiting:
            self.start(app, pending.stages, pending.share, Because("cores are free now", (("for", pending.reason),)))

    def load(self, instance: Instance, mask: int, because: Because) -> bool:
        """Load what an idle instance lacks of ``mask``; it serves nothing meanwhile. False where memory is short."""
        state = self._core.state
        app = state.apps[instance.app]
        node = state.nodes[instance.node]
        more = self.memory_mib(app, instance.stages | mask) - self.memory_mib(app, instance.stages)
        if node.memory_mib + more > node.node.memory_mib or node.free_cores < app.deployed.capabilities.min_cpu_cores:
            return False
        node.memory_mib += more
        instance.memory_mib += more
        instance.phase = "loading"
        instance.loading = mask & ~instance.stages
        self._charge(instance, node, min(instance.share, node.free_cores))
        self._core.emit(LoadStages(instance.number, instance.loading, because))
        return True

    def loaded(self, instance: Instance, mask: int, error: str) -> None:
        """An instance answered a load: it holds more, or what it held before."""
        self.uncharge(instance)
        instance.phase = "ready"
        instance.idle_since = self._core.now
        if error:
            app = self._core.state.apps[instance.app]
            node = self._core.state.nodes[instance.node]
            less = self.memory_mib(app, instance.stages | instance.loading) - self.memory_mib(app, instance.stages)
            node.memory_mib -= less
            instance.memory_mib -= less
        else:
            instance.stages |= mask
        instance.loading = 0

    def ready(self, instance: Instance) -> None:
        """A start is over."""
        self.uncharge(instance)
        instance.phase = "ready"
        instance.idle_since = self._core.now

    def stop(self, instance: Instance, because: Because) -> None:
        """Let an idle instance end."""
        instance.phase = "ending"
        self._core.emit(StopInstance(instance.number, because))

    def kill(self, instance: Instance, because: Because) -> None:
        """End an instance now."""
        instance.phase = "ending"
        instance.was_killed = True
        self._core.emit(KillInstance(instance.number, because))

    def gone(self, instance: Instance) -> None:
        """The process has ended: nothing is charged any more."""
        self.uncharge(instance)
        node = self._core.state.nodes.get(instance.node)
        if node is not None:
            node.memory_mib -= instance.memory_mib
        self._core.state.instances.pop(instance.number, None)

    def charge(self, instance: Instance, cores: float) -> None:
        """Charge soft cores for an invocation."""
        self._charge(instance, self._core.state.nodes[instance.node], cores)

    def _charge(self, instance: Instance, node: NodeState, cores: float) -> None:
        instance.cores = cores
        node.cores += cores

    def uncharge(self, instance: Instance) -> None:
        """Give soft cores back (a hard share stays charged until the end)."""
        app = self._core.state.apps.get(instance.app)
        if app is not None and app.deployed.capabilities.is_share_hard and instance.phase != "ending":
            return
        node = self._core.state.nodes.get(instance.node)
        if node is not None:
            node.cores -= instance.cores
            if -EPSILON < node.cores < EPSILON:
                node.cores = 0.0
        instance.cores = 0.0

    def can_run(self, instance: Instance, cores: float) -> bool:
        """Whether the node has this much free for an invocation."""
        app = self._core.state.apps[instance.app]
        if app.deployed.capabilities.is_share_hard:
            return True
        node = self._core.state.nodes[instance.node]
        return node.cores + cores <= node.node.usable_cores + EPSILON
