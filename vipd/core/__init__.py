"""The pure core: values, the election's state machine, policies. No I/O, no clock, nothing of the shell."""
