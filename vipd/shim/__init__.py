"""``/app/script.sh`` of the container that vipd replaces: what its manifests call, so that they run unchanged.

An image copies ``SCRIPT`` there and has no ENTRYPOINT, since those manifests give ``args: [/bin/sh, -c, ...]`` alone.
"""

from pathlib import Path

SCRIPT = Path(__file__).with_name("script.sh")
