"""What operators run from a shell: to see who holds the Leases, and to ask a holder to hand over.

Nothing here takes part in an election; it reads the API and writes one annotation.
"""
