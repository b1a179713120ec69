"""Makes the helper modules beside these tests, and those of the tests whose worlds and servers they use, importable."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent), *(str(HERE.parent / name) for name in ("unit", "kube", "aws"))]
