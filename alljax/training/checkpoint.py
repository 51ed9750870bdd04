"""All contact with Orbax: trees of arrays to a folder and back."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
from orbax.checkpoint import v1 as ocp

from alljax.errors import WorkdirError


def save(folder: Path, tree: Any) -> None:
    """Writes a tree of arrays; `folder` appears when it is complete.

    Raises:
        WorkdirError: the place cannot be written.
    """
    try:
        ocp.save(folder.resolve(), jax.tree.map(np.asarray, tree), overwrite=True)
    except (OSError, ValueError) as error:  # tensorstore tells a full disk as a ValueError, on a page
        reason = str(error).partition("[")[0].strip()[:200]
        raise WorkdirError(f"cannot write the checkpoint {folder}: {reason}; free space or mend the folder") from error


def load(folder: Path) -> Any:
    """Returns the tree of NumPy arrays in `folder`.

    Raises:
        WorkdirError: no checkpoint there, or a damaged one.
    """
    if not folder.is_dir():
        raise WorkdirError(f"{folder}: no checkpoint; run `alljax study` (or `alljax train`) with this workdir first")
    try:
        return ocp.load(folder.resolve())
    except (OSError, ValueError, KeyError) as error:  # tensorstore's reasons run to a page
        raise WorkdirError(f"{folder}: damaged checkpoint; remove {folder.parent} and run the study again") from error
