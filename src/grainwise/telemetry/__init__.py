"""What happened, by name: metrics derived from events and actions."""
