"""Instances as processes of this machine, with shared memory between them."""
