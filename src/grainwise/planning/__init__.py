"""The search kernel: how many functions, which stages, which share, batch and how many instances, and why."""
