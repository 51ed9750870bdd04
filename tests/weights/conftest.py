"""Lets the tests here import `containers`, which puts weight files together by hand."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
