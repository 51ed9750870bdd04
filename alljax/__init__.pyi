from alljax.api import load_study as load_study
from alljax.api import run_study as run_study
from alljax.config import load_config as load_config
from alljax.data.audit import audit_split as audit_split
from alljax.data.readers import open_dataset as open_dataset
from alljax.data.splits import make_splits as make_splits
from alljax.report.evaluation import evaluate as evaluate
from alljax.training.feature_extraction import extract_features as extract_features
from alljax.training.head_classifier import HeadClassifier as HeadClassifier
from alljax.training.network import load_backbone as load_backbone

__version__: str
