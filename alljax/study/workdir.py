"""The folder of a run: whose it is, and everything needed to redo what is in it."""

import csv
import importlib.metadata
import io
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import jax

import alljax
from alljax import config as configs
from alljax.errors import WorkdirError
from alljax.files import write_text

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy", "scikit-learn", "pillow")


def check(workdir: Path, config: dict[str, Any]) -> None:
    """Looks, before long work, whether `workdir` can be this run's; writes nothing.

    Args:
        workdir: the folder; need not exist.
        config: the config, flattened; classes it leaves to the source are not compared.

    Raises:
        WorkdirError: the folder holds a run of another config, or cannot be written.
    """
    stored = read_json(workdir / "config.json", absent={})
    if stored:
        config = config if config["data.classes"] else config | {"data.classes": stored.get("data.classes")}
        _refuse_another(workdir, stored, config)
    existing = next(path for path in (workdir.absolute(), *workdir.absolute().parents) if path.exists())
    if not existing.is_dir():
        raise WorkdirError(f"{workdir}: {existing} is a file; choose another --workdir")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise WorkdirError(f"cannot write in {existing}: permission denied; choose another --workdir")


def claim(workdir: Path, config: dict[str, Any], inputs: dict[str, str]) -> None:
    """Makes `workdir` this run's, or finds that it already is.

    Writes environment.json and config.json, unless they are there.

    Args:
        workdir: the folder; made if absent.
        config: the resolved config, flattened.
        inputs: what the run depends on besides: names to SHA-256 digests.

    Raises:
        WorkdirError: the folder holds a run of another config or of other inputs, or cannot be written.
    """
    stored = read_json(workdir / "config.json", absent={})
    if not stored:
        write_json(workdir / "environment.json", environment() | {"inputs": inputs})
        write_json(workdir / "config.json", config)
        return
    _refuse_another(workdir, stored, config)
    before = read_json(workdir / "environment.json").get("inputs", {})
    if changed := [name for name in inputs if before.get(name) != inputs[name]]:
        raise WorkdirError(
            f"{workdir} holds a run on other {' and '.join(changed)} (SHA-256 differs); "
            "choose another --workdir, or remove it"
        )


def _refuse_another(workdir: Path, stored: dict[str, Any], config: dict[str, Any]) -> None:
    if lines := configs.difference(stored, json.loads(json.dumps(config))):  # as JSON: tuples are lists
        shown = "; ".join(lines[:3]) + (f"; and {len(lines) - 3} more" if len(lines) > 3 else "")
        raise WorkdirError(f"{workdir} holds another run ({shown}); choose another --workdir, or remove it")


def environment() -> dict[str, Any]:
    """Returns versions, devices, the git revision of alljax and the command that was typed."""
    return {
        "alljax": alljax.__version__,
        "git_revision": _git_revision(),
        "command": " ".join(["alljax", *sys.argv[1:]]),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "devices": [f"{device.platform} {device.device_kind}" for device in jax.devices()],
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
    }


def read_json(path: Path, absent: Any = None) -> Any:
    """Returns the JSON in `path`, or `absent` (if one is given) where there is no file.

    Raises:
        WorkdirError: the file is absent, unreadable or cut off.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        if absent is not None:
            return absent
        raise WorkdirError(f"{path}: no such file; is this the --workdir of an alljax study?") from error
    except NotADirectoryError as error:
        raise WorkdirError(f"cannot use {path.parent}: a file stands in the way; choose another --workdir") from error
    except (OSError, ValueError) as error:
        raise WorkdirError(f"{path}: cannot be read ({error}); remove the workdir and run again") from error


def write_json(path: Path, value: Any) -> None:
    """Writes `value` as indented JSON, whole or not at all; NaN is refused."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Writes a CSV with Unix newlines, whole or not at all."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    write_text(path, text.getvalue())


def _git_revision() -> str:
    """Returns the commit alljax runs from, with ``+`` if files differ from it; empty outside a checkout."""
    folder = Path(alljax.__file__).parent
    if not (folder.parent / ".git").exists():
        return ""
    try:
        revision = subprocess.run(
            ["git", "-C", str(folder), "rev-parse", "HEAD"], capture_output=True, text=True, check=True
        )
        changed = subprocess.run(
            ["git", "-C", str(folder), "status", "--porcelain"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return revision.stdout.strip() + ("+" if changed.stdout.strip() else "")
