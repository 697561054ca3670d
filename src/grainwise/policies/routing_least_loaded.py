"""Which instance gets this invocation? The least loaded, wherever the data lies, as Knative's activator spreads requests.

An instance runs one invocation at a time and only idle ones are shown, so all are loaded alike at this moment; the one that has
been idle longest has had least to do lately.
"""

from collections.abc import Iterable
from typing import TypeVar

from grainwise.policies.routing import Candidate

C = TypeVar("C", bound=Candidate)


def decide(extent: int, idle: Iterable[C], home: str = "") -> C | None:
    """The instance for ``extent`` that has been idle longest, or nothing where no idle instance holds it."""
    able = [candidate for candidate in idle if candidate.stages & extent == extent]
    return min(able, key=lambda candidate: (candidate.idle_since, candidate.number), default=None)
