"""Results of runs as people and other programs read them: text, a page, and a file of requests."""
