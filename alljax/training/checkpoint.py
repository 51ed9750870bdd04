"""All contact with Orbax: trees of arrays to a folder and back, with checksums."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
from orbax.checkpoint import v1 as ocp

from alljax.errors import WorkdirError
from alljax.files import file_digest, write_text


def save(folder: Path, tree: Any) -> None:
    """Writes a tree of arrays; `folder` appears when it is complete.

    Beside it stands ``NAME.sha256``, the checksums of its files as sha256sum writes them.

    Raises:
        WorkdirError: the place cannot be written.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)  # Orbax would wait minutes for a place it cannot make
        ocp.save(folder.resolve(), jax.tree.map(np.asarray, tree), overwrite=True)
    except (OSError, ValueError) as error:  # tensorstore tells a full disk as a ValueError, on a page
        reason = str(error).partition("[")[0].strip()[:200]
        raise WorkdirError(f"cannot write the checkpoint {folder}: {reason}; free space or mend the folder") from error
    write_text(_checksums(folder), "".join(f"{digest}  {name}\n" for name, digest in _digests(folder).items()))


def load(folder: Path) -> Any:
    """Returns the tree of NumPy arrays in `folder`.

    The checksums are compared first: Orbax does not notice every damage, and what it does notice
    it tells in several tracebacks.

    Raises:
        WorkdirError: no checkpoint there, or a damaged one.
    """
    if not folder.is_dir():
        raise WorkdirError(f"{folder}: no checkpoint; run `alljax study` (or `alljax train`) with this workdir first")
    try:
        lines = _checksums(folder).read_text(encoding="utf-8").splitlines()
        if [f"{digest}  {name}" for name, digest in _digests(folder).items()] == lines:
            return ocp.load(folder.resolve())
    except (OSError, ValueError, KeyError) as error:
        raise _damaged(folder) from error
    raise _damaged(folder)


def _checksums(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.sha256")


def _digests(folder: Path) -> dict[str, str]:
    """Returns the SHA-256 of each file below `folder` by its path from the folder that holds it."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder.parent).as_posix(): file_digest(path) for path in files}


def _damaged(folder: Path) -> WorkdirError:
    return WorkdirError(f"{folder}: damaged checkpoint; remove {folder.parent} and run the study again")
