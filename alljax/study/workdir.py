"""The folder of a run: whose it is, and everything needed to redo what is in it."""

import contextlib
import csv
import importlib.metadata
import io
import json
import platform
import shlex
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

import alljax
from alljax import config as configs
from alljax import files
from alljax.errors import WorkdirError
from alljax.files import write_text
from alljax.study import sweep

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy", "scikit-learn", "pillow")


def check(workdir: Path, config: dict[str, Any], force: bool = False) -> None:
    """Looks, before long work, whether `workdir` can be this run's; writes nothing.

    Args:
        workdir: the folder; need not exist.
        config: the config, flattened; classes it leaves to the source are not compared.
        force: runs under way may go on with another config than they began with.

    Raises:
        WorkdirError: the folder holds results of another config, or cannot be written.
    """
    files.check_output(workdir, folder=True)
    if stored := _claimed(workdir):
        config = config if config["data.classes"] else config | {"data.classes": stored["config"].get("data.classes")}
        _refuse_another(workdir, stored["config"], config, force)


def claim(workdir: Path, config: dict[str, Any], inputs: dict[str, str], force: bool = False) -> None:
    """Makes `workdir` this run's, or finds that it already is.

    Writes environment.json and config.json.  A folder in which no model was finished and no checkpoint
    saved is claimed anew.  What was changed by force is added to environment.json.

    Args:
        workdir: the folder; made if absent.
        config: the resolved config, flattened.
        inputs: what the run depends on besides: names to SHA-256 digests.
        force: runs under way may go on with another config than they began with, on the same inputs.

    Raises:
        WorkdirError: the folder holds results of another config or of other inputs, or cannot be written.
    """
    stored = _claimed(workdir)
    if not stored:
        write_json(workdir / "environment.json", environment() | {"inputs": inputs})
        write_json(workdir / "config.json", config)
        return
    changes = _refuse_another(workdir, stored["config"], config, force)
    before = stored["environment"].get("inputs", {})
    new = inputs.keys() - before.keys() if changes else ()  # weights of models that were added
    if changed := input_difference(before, {name: inputs[name] for name in inputs if name not in new}):
        raise WorkdirError(f"{workdir} holds a run on other {shown(changed)}; choose another --workdir, or remove it")
    if changes:
        forced = [*stored["environment"].get("forced", []), changes]
        write_json(workdir / "environment.json", stored["environment"] | {"inputs": before | inputs, "forced": forced})
        write_json(workdir / "config.json", config)


@contextlib.contextmanager
def alone(workdir: Path, shard: tuple[int, int] = (0, 1)) -> Iterator[None]:
    """Keeps other processes out of `workdir`, but for other shards of the same study; makes the folder.

    Raises:
        WorkdirError: another process is at work in it, or it cannot be written.
    """
    busy = f"another alljax is at work in {workdir}; wait for it or choose another"
    index, count = shard
    with files.file_lock(workdir / ".lock", busy, shared=count > 1):
        if count == 1:
            yield
        else:
            with files.file_lock(workdir / f".lock-{index}-of-{count}", busy):
                yield


def _claimed(workdir: Path) -> dict[str, dict[str, Any]]:
    """Returns config and environment of the run that has results here; empty where there are none."""
    marks = ("metrics.json", "runs/*/result.sha256", "runs/*/checkpoints/*.sha256")
    if not any(any(workdir.glob(f"trials/*/{mark}")) for mark in marks):
        return {}
    return {name: read_json(workdir / f"{name}.json") for name in ("config", "environment")}


def _refuse_another(workdir: Path, stored: dict[str, Any], config: dict[str, Any], force: bool) -> list[str]:
    """Returns what differs from the stored config, a line a key: with `force`, and where nothing is finished by it.

    Raises:
        WorkdirError: something differs, and may not.
    """
    if not (lines := configs.difference(stored, config)):
        return []
    if not force:
        raise WorkdirError(
            f"{workdir} holds another run ({shown(lines)}); choose another --workdir, remove it, or let runs under "
            "way go on with --resume=force"
        )
    before, now = (
        {trial.name: configs.flatten(trial.config) for trial in sweep.expand(configs.unflatten(each))}
        for each in (stored, config)
    )
    for name in before.keys() & now.keys():
        here = workdir / "trials" / name
        finished = [here / "metrics.json", *here.glob("runs/*/result.sha256")]
        if any(map(Path.is_file, finished)) and (changed := configs.difference(before[name], now[name])):
            raise WorkdirError(
                f"{here} holds finished runs of another config ({shown(changed)}); remove it to begin this model "
                "anew, or choose another --workdir"
            )
    return lines


def input_difference(stored: Mapping[str, str], given: Mapping[str, str]) -> list[str]:
    """Returns a line for each input of `given` (names to SHA-256 digests) that is not the stored one, with both."""
    return [
        f"{name} (SHA-256 {stored.get(name, 'none')[:16]} there, {digest[:16]} given)"
        for name, digest in given.items()
        if stored.get(name) != digest
    ]


def shown(lines: list[str]) -> str:
    """Returns the first lines of a difference, and how many more there are."""
    return "; ".join(lines[:3]) + (f"; and {len(lines) - 3} more" if len(lines) > 3 else "")


def environment() -> dict[str, Any]:
    """Returns versions, devices, the git revision of alljax and the command that was typed."""
    return {
        "alljax": alljax.__version__,
        "git_revision": _git_revision(),
        "command": shlex.join(["alljax", *sys.argv[1:]]),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "devices": [f"{device.platform} {device.device_kind}" for device in jax.devices()],
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
    }


def read_json(path: Path) -> Any:
    """Returns the JSON in `path`.

    Raises:
        WorkdirError: the file is absent, unreadable or cut off.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise WorkdirError(f"{path}: no such file; is this the --workdir of a finished alljax study?") from error
    except OSError as error:
        raise WorkdirError(f"{path}: cannot be read ({error.strerror or error})") from error
    except ValueError as error:
        raise WorkdirError(f"{path}: damaged ({error}); run the study anew in another --workdir") from error


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
