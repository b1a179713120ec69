"""vipd: one owner for a floating IP on AWS and Kubernetes, elected through a Lease.

Imports go one way: ``core`` (pure) <- adapters (``kube``, ``link``, ``announce``, ``aws``)
<- ``agent`` (the shell) <- ``cli``.  ``lab`` runs the real processes in network namespaces.
"""

__version__ = "0.1.0"
