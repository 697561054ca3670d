"""Grainwise: multi-stage ML applications at the right granularity."""
