"""How an app is called over HTTP."""
