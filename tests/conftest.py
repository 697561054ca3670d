"""Makes ``worlds``, the pretend surroundings that tests share, importable from every test."""
