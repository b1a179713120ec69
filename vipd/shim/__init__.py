"""``/app/script.sh`` of the container that vipd replaces: what its manifests call, so that they run unchanged.

Those manifests give ``args: [/bin/sh, -c, '/app/script.sh sidecar']`` and nothing else.  So an image copies ``SCRIPT``
to /app, has no ENTRYPOINT, and has a /bin/sh that lets a single command take its place, as bash and busybox do.  dash
starts a child and waits: as process 1 of the container it drops SIGTERM, and vipd would not be told to hand over.
"""

from pathlib import Path

SCRIPT = Path(__file__).with_name("script.sh")
