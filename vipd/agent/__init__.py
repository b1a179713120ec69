"""The shell round the core: runs the election, carries out its effects, and composes the adapters."""
