"""Other serving systems with the trivial image application, each in an environment of its own."""
