"""What all cells of a study share: the images, the people they come from, and the splits."""

import hashlib
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from alljax import progress
from alljax.data import pipeline, splits
from alljax.data.records import Dataset
from alljax.data.source import open_source
from alljax.study.say import Say
