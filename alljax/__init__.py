"""alljax: transfer learning on microscopic images of blood cells.

The subpackages follow the path of the data: `data`, `models`, `weights`, `features`, `training`, `evaluation`, `study`,
`report`, `paper`; each imports only from those before it.  The names in `__all__` are imported on first use.
"""

import re
from importlib import import_module
from pathlib import Path
from typing import Any

__version__ = "0.1.0"

# The stub is the only list of the public names: type checkers and editors read it, too.
_STUB = Path(__file__).with_suffix(".pyi").read_text(encoding="utf-8")
_MODULES = {name: module for module, name in re.findall(r"from (\S+) import (\w+)", _STUB)}
__all__ = ["__version__", *_MODULES]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'alljax' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return __all__
