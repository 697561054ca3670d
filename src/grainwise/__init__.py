"""Grainwise: multi-stage ML applications at the right granularity."""

from grainwise.domain.app import Slo
from grainwise.sdk import sizes
from grainwise.sdk.app import App
from grainwise.sdk.arrays import empty, empty_like
from grainwise.sdk.flow import choose, each
from grainwise.sdk.stage import Batch, Failed, Stage

__all__ = ["App", "Batch", "Failed", "Slo", "Stage", "choose", "each", "empty", "empty_like", "sizes"]
