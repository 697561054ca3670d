"""Instances and what they are charged.

Memory, hard shares and parts of devices from start to stop, soft shares of cores while loading or invoking.
"""

from collections.abc import Sequence
from typing import Literal

from grainwise.control.actions import KillInstance, LoadStages, StartInstance, StopInstance
from grainwise.control.core import WATCH, Compiled, Core
from grainwise.control.devices import can_hold, device_views
from grainwise.control.state import AppState, Instance, NodeState, PendingStart
from grainwise.domain.because import Because
from grainwise.domain.time import SECOND, Instant, Micros
from grainwise.policies import placement
from grainwise.policies.home import home_of
from grainwise.policies.slices import DeviceNeed
from grainwise.predictors.groups import device_mask, items_at_once

EPSILON = 1e-9
"""Slack for sums of shares that binary fractions cannot hold exactly."""

UNITS = 1 << 40
"""To a core: so many that what rounding takes off the shares of a thousand instances stays below ``EPSILON``."""

LOAD_CORES = 0.5
"""A start or a load waits for so many cores, or for the function's share: a soft share cannot be raised while it loads."""

START_FLOOR: Micros = 360 * SECOND
LOAD_FLOOR: Micros = 60 * SECOND
PATIENCE_FACTOR = 5.0
"""An instance that does not answer a start or a load within this many times the prediction, and the floor, is killed.

Runtimes limit starts themselves; the floor of a start is for one that fails to tell.
"""


class Fleet:
    """Starts, loads, stops and kills instances within the capacity of the nodes.

    Every change of an instance's phase goes through here, which keeps an index of the instances of each app and of the idle
    ones among them, and remembers of those that are ready what every dispatch asks for. All of it is derived from the state.
    """

    def __init__(self, core: Core) -> None:
        self._core = core
        self._of: dict[str, dict[int, Instance]] = {name: {} for name in core.state.apps}
        self._idle: dict[str, dict[int, Instance]] = {name: {} for name in core.state.apps}
        self._ready: dict[str, _Ready] = {name: _Ready() for name in core.state.apps}
        for instance in core.state.instances.values():
            self._of[instance.app][instance.number] = instance
            if instance.phase == "ready":
                self._use(instance, 1)
                if not instance.invocation:
                    self._idle[instance.app][instance.number] = instance

    def add_app(self, name: str) -> None:
        """Keep books for an app."""
        self._of.setdefault(name, {})
        self._idle.setdefault(name, {})
        self._ready.setdefault(name, _Ready())

    def of(self, app: AppState) -> list[Instance]:
        """The instances of an app, in the order of their numbers."""
        return list(self._of[app.deployed.app.name].values())

    def idle(self, app: AppState) -> dict[int, Instance]:
        """The instances of an app that are ready and free, by number. The order is of no meaning."""
        return self._idle[app.deployed.app.name]

    def serving(self, app: AppState, mask: int) -> int:
        """How many instances are ready and hold ``mask``."""
        name = app.deployed.app.name
        serving = self._ready[name].serving
        found = serving.get(mask)
        if found is None:
            found = serving[mask] = sum(
                1 for each in self._of[name].values() if each.phase == "ready" and each.stages & mask == mask
            )
        return found

    def spare_cores(self, app: AppState, compiled: Compiled, node: str) -> float:
        """How much of the shares of an app's instances on a node nobody uses: an idle one's share, less what others borrow.

        The shares are those that ``compiled`` says: an instance that was started under another plan may have less yet.
        """
        name = app.deployed.app.name
        ready = self._ready[name]
        if ready.compiled is not compiled:
            ready.compiled, ready.shares = compiled, {}
            for each in self._of[name].values():
                if each.phase == "ready":
                    share = compiled.share_of(each.stages)
                    ready.shares[each.node] = ready.shares.get(each.node, 0) + _in_units(share)
        return (ready.shares.get(node, 0) - ready.used.get(node, 0)) / UNITS

    def _use(self, instance: Instance, sign: int) -> None:
        """Count in, or out, what an instance that is ready uses for its invocation."""
        if instance.cores:
            used = self._ready[instance.app].used
            used[instance.node] = used.get(instance.node, 0) + sign * _in_units(instance.cores)

    def coming(self, app: AppState, mask: int) -> int:
        """How many instances that will hold ``mask`` are starting, loading or waiting to start."""
        count = sum(
            1
            for each in self._of[app.deployed.app.name].values()
            if (each.phase == "starting" or each.phase == "loading") and (each.stages | each.loading) & mask == mask
        )
        return count + sum(1 for pending in app.pending_starts if pending.stages & mask == mask)

    def has_or_awaits(self, app: AppState, mask: int) -> bool:
        """Whether some instance holds ``mask`` or will."""
        for each in self._of[app.deployed.app.name].values():
            if each.phase != "ending" and (each.stages | each.loading) & mask == mask:
                return True
        return any(pending.stages & mask == mask for pending in app.pending_starts)

    def is_any_ending(self) -> bool:
        """Whether memory is about to become free."""
        return any(each.phase == "ending" for each in self._core.state.instances.values())

    def memory_mib(self, app: AppState, mask: int) -> float:
        """Predicted resident memory of an instance that holds ``mask``."""
        return app.deployed.model.memory_mib(mask, app.deployed.hop.process_mib)

    def device_mib(self, app: AppState, mask: int) -> float:
        """Predicted memory on a device: weights of the stages of ``mask`` that are declared for one, and their activations.

        The largest batch counts of the functions, of all plans that are followed, which an instance with this residency serves.
        """
        spec = app.deployed.app
        batch = 1
        for plan in app.plans.values():
            for function in plan.functions:
                if not spec.graph.mask(function.stages) & ~mask:
                    batch = max(batch, function.max_batch)
        return app.deployed.model.device_memory_mib(device_mask(spec, mask), items_at_once(spec, batch))

    def place(self, app: AppState, mask: int, share: float, gpu: float = 0.0) -> placement.Place | placement.NoRoom:
        """Where an instance with this residency would go; ``gpu`` is the part of a device that it needs."""
        capabilities = app.deployed.capabilities
        state = self._core.state
        promised: dict[str, float] = {}
        for instance in state.instances.values():
            promised[instance.node] = promised.get(instance.node, 0.0) + instance.share
        lacks = self._lacks(app, mask) if len(state.nodes) > 1 else {}
        present = [name for name, node in state.nodes.items() if node.is_present]
        home = home_of(app.deployed.app.name, app.deployed.app.graph.names(mask), present)
        views = [
            placement.NodeView(
                name,
                node.free_memory_mib,
                node.free_cores,
                node.usable_cores,
                device_views(node, state.instances.values()) if gpu else (),
                promised.get(name, 0.0),
                bool(node.node.devices),
                lacks.get(name, 0.0),
                promised.get(name, 0.0) + share > node.usable_cores + EPSILON,
                name == home,
            )
            for name, node in state.nodes.items()
            if node.is_present
        ]
        need = share if capabilities.is_share_hard else self._least_load_share(app, share)
        decide = self._core.policies[app.deployed.app.name].place
        device = DeviceNeed(gpu, self.device_mib(app, mask)) if gpu else None
        return decide(views, self.memory_mib(app, mask), need, capabilities.is_share_hard, device)

    def _lacks(self, app: AppState, mask: int) -> dict[str, float]:
        """By node, by how many instances with this residency there are too few beside the stages that it exchanges values with.

        An instance that holds all of ``mask`` is one of its own, whatever else it holds.
        """
        beside = _beside(app.deployed.app.graph.predecessors, mask)
        if not beside:
            return {}
        own: dict[str, int] = {}
        others: dict[str, int] = {}
        for instance in self._of[app.deployed.app.name].values():
            if instance.phase == "ending":
                continue
            stages = instance.stages | instance.loading
            if stages & mask == mask:
                own[instance.node] = own.get(instance.node, 0) + 1
            elif stages & beside:
                others[instance.node] = others.get(instance.node, 0) + 1
        everywhere, neighbours = sum(own.values()), sum(others.values())
        return {
            node: placement.lacking_beside(own.get(node, 0), everywhere, count, neighbours) for node, count in others.items()
        }

    def start(self, app: AppState, mask: int, share: float, because: Because, gpu: float = 0.0) -> int | placement.NoRoom:
        """Start an instance, or say what is missing. Returns its number, 0 when it waits for free cores."""
        started = self._start(app, mask, share, because, gpu)
        if started == 0:
            app.pending_starts.append(PendingStart(mask, share, because.render(), gpu))
        return started

    def _start(self, app: AppState, mask: int, share: float, because: Because, gpu: float) -> int | placement.NoRoom:
        verdict = self.place(app, mask, share, gpu)
        if isinstance(verdict, placement.NoRoom):
            return verdict
        state = self._core.state
        node = state.nodes[verdict.node]
        capabilities = app.deployed.capabilities
        load_share = share if capabilities.is_share_hard else min(share, node.free_cores)
        if load_share < min(self._least_load_share(app, share), node.usable_cores) - EPSILON:
            return 0
        number = state.next_instance
        state.next_instance += 1
        memory = self.memory_mib(app, mask)
        name = app.deployed.app.name
        instance = Instance(number, name, node.node.name, mask, "starting", memory, share, self._core.now)
        given = verdict.grant
        if given is not None:
            instance.device, instance.gpu_share_fraction = given.device, given.share_fraction
            instance.slice_start, instance.slots = given.start, given.slots
            instance.device_mib = self.device_mib(app, mask)
        state.instances[number] = instance
        self._of[name][number] = instance
        node.memory_mib += memory
        _charge(instance, node, load_share)
        self._set_limit(app, instance, mask, START_FLOOR)
        self._core.emit(
            StartInstance(
                number, name, mask, instance.node, load_share, memory, because, share,
                instance.device, instance.gpu_share_fraction, instance.slice_start, instance.device_mib,
            )
        )  # fmt: skip
        return number

    def _least_load_share(self, app: AppState, share: float) -> float:
        """The least soft share to start or load with.

        No more than what the end of any invocation frees, else those who wait for cores would never see enough of them at once.
        """
        freed = min(
            function.cpu_cores
            for other in self._core.state.apps.values()
            for plan in other.plans.values()
            for function in plan.functions
        )
        return min(share, max(app.deployed.capabilities.min_cpu_cores, min(LOAD_CORES, freed)))

    def start_pending(self, app: AppState, wanted: Sequence[int]) -> None:
        """Start what waited for cores, as far as they are free now; what holds none of ``wanted`` is not needed any more."""
        waiting, app.pending_starts = app.pending_starts, []
        for pending in waiting:
            if not any(pending.stages & mask == mask for mask in wanted):
                continue
            because = Because("cores are free now", (("for", pending.reason),))
            started = self._start(app, pending.stages, pending.share, because, pending.gpu)
            if started == 0:
                app.pending_starts.append(pending)
            elif isinstance(started, placement.NoRoom):
                app.is_covered = False

    def load(self, instance: Instance, mask: int, because: Because, gpu: float = 0.0) -> bool:
        """Load what an idle instance lacks of ``mask``; it serves nothing meanwhile.

        False where memory or cores are short, or where its part of a device is less than ``gpu`` or has too little memory left.
        """
        core = self._core
        app = core.state.apps[instance.app]
        node = core.state.nodes[instance.node]
        capabilities = app.deployed.capabilities
        more = self.memory_mib(app, instance.stages | mask) - self.memory_mib(app, instance.stages)
        if not node.is_present or node.free_memory_mib < more:
            return False
        if gpu > instance.gpu_share_fraction + EPSILON:
            return False
        on_device = 0.0
        if instance.device:
            on_device = self.device_mib(app, instance.stages | mask) - self.device_mib(app, instance.stages)
            if on_device > 0 and not self._has_room_on_device(instance, node, on_device):
                return False
        if not capabilities.is_share_hard:
            share = min(instance.share, node.free_cores)
            if share < min(self._least_load_share(app, instance.share), node.usable_cores) - EPSILON:
                return False
            _charge(instance, node, share)
        node.memory_mib += more
        instance.memory_mib += more
        instance.loading_mib = more
        instance.device_mib += on_device
        instance.loading_device_mib = on_device
        instance.loading = mask & ~instance.stages
        self._set_phase(instance, "loading")
        self._set_limit(app, instance, instance.loading, LOAD_FLOOR)
        core.emit(LoadStages(instance.number, instance.loading, because, on_device))
        return True

    def _has_room_on_device(self, instance: Instance, node: NodeState, more_mib: float) -> bool:
        views = device_views(node, self._core.state.instances.values())
        return any(view.device.name == instance.device and can_hold(view, instance, more_mib) for view in views)

    def loaded(self, instance: Instance, mask: int, error: str) -> None:
        """An instance answered a load: it holds more, or what it held before."""
        self._uncharge(instance)
        if error:
            node = self._core.state.nodes[instance.node]
            node.memory_mib -= instance.loading_mib
            instance.memory_mib -= instance.loading_mib
            instance.device_mib -= instance.loading_device_mib
        else:
            instance.stages |= mask
        instance.loading = 0
        instance.loading_mib = 0.0
        instance.loading_device_mib = 0.0
        self._become_idle(instance)

    def ready(self, instance: Instance) -> None:
        """A start is over."""
        self._uncharge(instance)
        self._become_idle(instance)

    def watch(self, instance: Instance) -> None:
        """Look at an instance when its limit has come. A timer that comes earlier is left and set anew when it fires."""
        if not instance.watched_at or instance.limit < instance.watched_at:
            instance.watched_at = instance.limit
            self._core.set_timer(instance.limit, WATCH, instance.number)

    def progressed(self, instance: Instance) -> None:
        """What an instance does goes on: it has its full time again."""
        instance.limit = self._core.now + instance.patience

    def occupy(self, app: AppState, instance: Instance, invocation: int, cores: float, limit: Instant) -> None:
        """An idle instance begins an invocation."""
        instance.invocation = invocation
        instance.limit = limit
        instance.patience = limit - self._core.now
        self.watch(instance)
        del self._idle[instance.app][instance.number]
        if not app.deployed.capabilities.is_share_hard:
            _charge(instance, self._core.state.nodes[instance.node], cores)
            self._use(instance, 1)

    def free(self, app: AppState, number: int, invocation: int) -> None:
        """An invocation has ended on a living instance."""
        state = self._core.state
        instance = state.instances.get(number)
        if instance is None or instance.invocation != invocation:
            return
        instance.invocation = 0
        instance.limit = 0
        if not app.deployed.capabilities.is_share_hard:
            if instance.phase == "ready":
                self._use(instance, -1)
            _discharge(instance, state.nodes[instance.node])
        if instance.phase == "ready":
            instance.idle_since = self._core.now
            self._idle[instance.app][number] = instance

    def stop(self, instance: Instance, because: Because) -> None:
        """Let an idle instance end."""
        self._set_phase(instance, "ending")
        self._core.emit(StopInstance(instance.number, because))

    def kill(self, instance: Instance, because: Because) -> None:
        """End an instance now."""
        self._set_phase(instance, "ending")
        instance.was_killed = True
        self._core.emit(KillInstance(instance.number, because))

    def gone(self, instance: Instance) -> None:
        """The process has ended: nothing is charged any more."""
        state = self._core.state
        node = state.nodes[instance.node]
        node.memory_mib -= instance.memory_mib
        if -EPSILON < node.memory_mib < EPSILON:
            node.memory_mib = 0.0
        if instance.phase == "ready":
            self._leave_ready(instance)
        _discharge(instance, node)
        del state.instances[instance.number]
        del self._of[instance.app][instance.number]
        self._idle[instance.app].pop(instance.number, None)
        if not node.is_present and not any(each.node == instance.node for each in state.instances.values()):
            del state.nodes[instance.node]

    def can_run(self, app: AppState, node: NodeState, cores: float) -> bool:
        """Whether a node has this much free for an invocation."""
        return app.deployed.capabilities.is_share_hard or node.usable_cores - node.cores >= cores - EPSILON

    def _set_limit(self, app: AppState, instance: Instance, mask: int, floor: Micros) -> None:
        predicted_us = app.deployed.model.cold_start_us(mask)
        instance.limit = self._core.now + max(floor, int(predicted_us * PATIENCE_FACTOR))
        self.watch(instance)

    def _become_idle(self, instance: Instance) -> None:
        instance.phase = "ready"
        self._ready[instance.app].forget()
        instance.limit = 0
        instance.idle_since = self._core.now
        self._idle[instance.app][instance.number] = instance

    def _set_phase(self, instance: Instance, phase: Literal["loading", "ending"]) -> None:
        if instance.phase == "ready":
            self._leave_ready(instance)
        instance.phase = phase
        instance.limit = 0
        self._idle[instance.app].pop(instance.number, None)

    def _leave_ready(self, instance: Instance) -> None:
        self._use(instance, -1)
        self._ready[instance.app].forget()

    def _uncharge(self, instance: Instance) -> None:
        """Give soft cores back; a hard share stays charged until the end."""
        state = self._core.state
        if not state.apps[instance.app].deployed.capabilities.is_share_hard:
            _discharge(instance, state.nodes[instance.node])


class _Ready:
    """What is remembered of an app's ready instances.

    ``serving`` counts them by the stages that are asked for. By node, ``shares`` are their shares under ``compiled`` and
    ``used`` what their invocations use. These are whole numbers, since a sum of floats depends on the order in which its terms
    came and went, which a controller that goes on from a snapshot does not know.
    """

    __slots__ = ("compiled", "serving", "shares", "used")

    def __init__(self) -> None:
        self.serving: dict[int, int] = {}
        self.compiled: Compiled | None = None
        self.shares: dict[str, int] = {}
        self.used: dict[str, int] = {}

    def forget(self) -> None:
        """Another instance is ready, or one no more."""
        self.serving.clear()
        self.compiled = None


def _in_units(cores: float) -> int:
    return round(cores * UNITS)


def _beside(predecessors: Sequence[int], mask: int) -> int:
    """The stages that those of ``mask`` read from or hand on to; 0 where they are all there are."""
    found = 0
    for stage, reads in enumerate(predecessors):
        if mask >> stage & 1:
            found |= reads
        elif reads & mask:
            found |= 1 << stage
    return found & ~mask


def _charge(instance: Instance, node: NodeState, cores: float) -> None:
    instance.cores = cores
    node.cores += cores


def _discharge(instance: Instance, node: NodeState) -> None:
    node.cores -= instance.cores
    instance.cores = 0.0
    if -EPSILON < node.cores < EPSILON:
        node.cores = 0.0
