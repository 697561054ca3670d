"""Searches and planners of published schedulers, each after its paper, reconstructed."""
