"""Makes `seeded_weights` importable, which these tests share with `make_goldens.py`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
