"""A Kubernetes API for the lab: Leases, Pods, Nodes and Events, with conflicts, watches and expiry, in one process."""
