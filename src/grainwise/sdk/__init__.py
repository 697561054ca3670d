"""How users declare an app: `App`, stages, flows, `each` and `choose`."""
