"""How it was measured: stages in real instance processes over batch, share and input size."""
