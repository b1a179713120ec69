"""Health checks: whether what the VIP is for works on this member, which gates candidacy and ownership.

Each kind of check makes one attempt within its time limit and says in one line what was wrong; ``monitor`` repeats
them and counts.  Importing this package loads nothing; its modules load aiohttp when an HTTP check needs it.
"""
