"""The simulator: the production core and agent on a virtual clock, in a small world full of seeded faults."""
