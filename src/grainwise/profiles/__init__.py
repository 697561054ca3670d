"""What we know about each stage: versioned artifacts, read, written and verified."""
