"""The Kubernetes adapter: one Lease, the labels and Events that tell people who holds it.

Everything speaks JSON as the API writes it; no model classes are loaded, which costs memory and hides wire details.
"""
