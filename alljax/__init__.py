"""alljax: transfer learning on microscopic images of blood cells.

The subpackages follow the path of the data: `data`, `models`, `weights`, `features`, `training`, `evaluation`, `study`,
`report`, `paper`; each imports only from those before it.  The names in `__all__` are imported on first use.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_MODULES = {
    "load_config": "config.load",
    "open_dataset": "data.readers.open_dataset",
    "make_splits": "data.splits.make_splits",
    "get_backbone": "models.backbones.get_backbone",
    "evaluate": "evaluation.intervals.evaluate",
    "run_study": "study.run.run_study",
    "write_report": "report.report.write_report",
}
__all__ = ["__version__", *_MODULES]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'alljax' has no attribute {name!r}")
    module, _, attribute = _MODULES[name].rpartition(".")
    return getattr(import_module(f"alljax.{module}"), attribute)
