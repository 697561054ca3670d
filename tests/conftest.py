"""Makes ``worlds``, the pretend surroundings that tests share, importable from every test."""

from hypothesis import settings

# A slow machine is no failure: what a test claims is checked by its assertions, never by how long an example took.
settings.register_profile("steady", deadline=None)
settings.load_profile("steady")
