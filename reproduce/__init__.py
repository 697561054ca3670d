"""Studies that anyone can rerun: ``python -m reproduce``."""
