"""``python -m vipd``."""

import sys

from vipd.cli.main import main

sys.exit(main())
