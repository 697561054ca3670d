"""What to do now: one recurring question per file, each decision with its reason."""
