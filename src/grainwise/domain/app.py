"""What the user declared, as plain data: the server works from this and never imports user code."""

from typing import Literal

from msgspec import Struct

from grainwise.domain.graph import Graph
from grainwise.domain.values import ValueType

DeviceKind = Literal["cpu", "gpu"]


class Slo(Struct, frozen=True, forbid_unknown_fields=True):
    """The fraction ``target`` of offered requests is answered correctly within ``latency_ms``."""

    latency_ms: float
    target: float = 0.99


class StageSpec(Struct, frozen=True):
    """One declared stage.

    ``size`` names a built-in measure of ``grainwise.sizes`` or is ``"custom"`` for the user's own function, which only
    instances can call. ``timeout_ms`` is a declared limit for one invocation of the stage; without one the limit is derived.
    """

    name: str
    inputs: tuple[ValueType, ...]
    output: ValueType
    device: DeviceKind = "cpu"
    max_batch: int = 1
    size: str = "one"
    memory_mib: float | None = None
    timeout_ms: float | None = None
    is_class: bool = False


class AppSpec(Struct, frozen=True):
    """An app as its file declares it.

    ``source_digest`` is the digest of the app file and of the modules that it imports from its own folder; ``digest`` that of
    the declaration, by which profiles and logs are matched. With ``reject_late`` a request that cannot meet
    its deadline is refused at arrival.
    """

    name: str
    slo: Slo
    graph: Graph
    stages: tuple[StageSpec, ...]
    inputs: tuple[ValueType, ...]
    outputs: tuple[ValueType, ...]
    source_digest: str
    digest: str
    reject_late: bool = False
    description: str = ""

    def spec(self, stage: int) -> StageSpec:
        """The declaration behind stage number ``stage`` of the graph."""
        declared = self.graph.stages[stage].declared
        return next(spec for spec in self.stages if spec.name == declared)
