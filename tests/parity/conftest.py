"""Lets the tests here import `seeded_weights`, which `make_goldens.py` shares with them."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
