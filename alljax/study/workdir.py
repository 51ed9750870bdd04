"""The work folder of a study: which study owns it, its lock, and the reading and writing of its files.

A folder of another study or version, and a file that is missing, damaged or cannot be written, raise `WorkdirError`.
"""

import contextlib
import importlib.metadata
import json
import platform
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import alljax
from alljax import config as configs
from alljax import files
from alljax.errors import WorkdirError, first_few
from alljax.study.sweep import Trial

if TYPE_CHECKING:
    from pandas import DataFrame

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "scikit-learn", "pillow")
RERUN = "run the same `alljax study` command again"
CHECKSUMS = "checksums.json"
TEXT_COLUMNS = ("path", "subject", "subject_name", "label", "predicted", "subset")


def trial_folder(workdir: Path, name: str) -> Path:
    """Returns the folder of a trial."""
    return workdir / "trials" / name


def read_trials(workdir: Path) -> list[dict[str, Any]]:
    """Returns trials.json: ``name``, ``split`` and ``config`` (dotted key to value) of each trial of the study."""
    check_version(workdir)
    return list(read_json(workdir / "trials.json"))


def read_result(workdir: Path, name: str) -> dict[str, Any]:
    """Returns metrics.json of a trial: its metrics, ``{"failed": reason}``, or nothing where it is missing."""
    path = trial_folder(workdir, name) / "metrics.json"
    return dict(read_json(path)) if path.is_file() else {}


def is_finished(workdir: Path, name: str) -> bool:
    """Returns whether the results of a trial exist."""
    result = read_result(workdir, name)
    return bool(result) and "failed" not in result


def check_version(workdir: Path) -> None:
    """Raises `WorkdirError` if a folder is not the work folder of a study, or has the layout of an earlier version."""
    if (workdir / "trials.json").is_file():
        return
    if not all((workdir / name).is_file() for name in ("config.json", "environment.json")):
        raise WorkdirError(f"{workdir} is not the --workdir of an alljax study (no trials.json in it)")
    version = read_json(workdir / "environment.json").get("alljax", "unknown")
    raise WorkdirError(
        f"{workdir} was written by an earlier alljax (version {version}) with another layout; run the study again in "
        "another --workdir"
    )


def check(workdir: Path, config: dict[str, Any], trials: Sequence[Trial], force: bool) -> None:
    """Checks, before long work, that a study with a flattened config can use `workdir`; writes nothing.

    With `force`, unfinished runs may continue with another config.
    """
    files.check_output(workdir, folder=True)
    if (workdir / "config.json").is_file():
        check_version(workdir)
    if not _is_used(workdir) or not (lines := changes(workdir, config)):
        return
    if not force:
        raise WorkdirError(
            f"{workdir} holds another study ({first_few(lines)}); choose another --workdir, remove it, or continue the "
            "unfinished runs with --resume=force"
        )
    given = {trial.name: configs.flatten(trial.config) for trial in trials}
    for trial in read_trials(workdir):
        folder, wanted = trial_folder(workdir, trial["name"]), given.get(trial["name"], trial["config"])
        if _results(folder) and (lines := configs.difference(trial["config"], wanted)):
            raise WorkdirError(
                f"{folder} holds finished runs of another config ({first_few(lines)}); remove it to train this trial "
                "again, or choose another --workdir"
            )


def claim(
    workdir: Path, config: dict[str, Any], trials: Sequence[Trial], inputs: dict[str, str], source_state: str
) -> None:
    """Writes config.json, trials.json and environment.json of a study that `check` allows.

    A folder without results or checkpoints is overwritten. Changes by force are listed in environment.json. `config`
    is flattened; `inputs` are the SHA-256 of images, folds and weights, by name.
    """
    written = environment() | {"inputs": inputs}
    if _is_used(workdir):
        written = read_json(workdir / "environment.json")
        if forced := changes(workdir, config):
            written["forced"] = [*written.get("forced", []), forced]
            written["inputs"] = inputs | written["inputs"]  # weights of added trials
        if other := input_changes(written["inputs"], inputs):
            raise WorkdirError(f"{workdir} holds a study of {other}; choose another --workdir, or remove it")
    listed = [{"name": trial.name, "split": trial.split, "config": configs.flatten(trial.config)} for trial in trials]
    write_json(workdir / "trials.json", listed)
    write_json(workdir / "config.json", config)
    write_json(workdir / "environment.json", written | {"source_state": source_state})


def check_free(workdir: Path, shard: tuple[int, int]) -> None:
    """Raises `WorkdirError` if another process holds the lock of `exclusive`; creates nothing."""
    if _lock(workdir, shard).exists():
        with exclusive(workdir, shard):
            pass


def exclusive(workdir: Path, shard: tuple[int, int]) -> contextlib.AbstractContextManager[None]:
    """Locks `workdir`, or one shard of its study, for this process; creates the folder."""
    return files.file_lock(
        _lock(workdir, shard), f"another alljax uses {workdir}; wait for it or choose another --workdir"
    )


def _lock(workdir: Path, shard: tuple[int, int]) -> Path:
    index, count = shard
    return workdir / (".lock" if count == 1 else f".lock-{index}-of-{count}")


def changes(workdir: Path, config: dict[str, Any]) -> list[str]:
    """Returns how a flattened config differs from that in `workdir`; classes that it does not set are ignored."""
    stored = read_json(workdir / "config.json")
    return configs.difference(stored, config | {"data.classes": config["data.classes"] or stored["data.classes"]})


def input_changes(stored: Mapping[str, str], given: Mapping[str, str]) -> str:
    """Returns which inputs have another SHA-256 in `given` than stored, by name; empty for none."""
    lines = [
        f"{name} (SHA-256 {stored.get(name, 'none')[:16]} → {digest[:16]})"
        for name, digest in given.items()
        if stored.get(name) != digest
    ]
    return f"other inputs: {first_few(lines)}" if lines else ""


def _results(trial_folder: Path) -> list[Path]:
    """Returns the checksums of the finished trial and the results of its finished runs."""
    return [*trial_folder.glob(CHECKSUMS), *trial_folder.glob("runs/*/result.npz")]


def _is_used(workdir: Path) -> bool:
    """Returns whether the folder has results or checkpoints."""
    saved = any(path.name.isdecimal() for path in workdir.glob("trials/*/runs/*/checkpoints/*"))
    return saved or any(_results(folder) for folder in workdir.glob("trials/*"))


def environment() -> dict[str, Any]:
    """Returns versions, devices, the git revision of alljax and the command."""
    import jax

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
    """Returns the JSON in `path`."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WorkdirError(f"{path}: missing or damaged ({error}); run the study again in another --workdir") from error


def write_json(path: Path, value: Any) -> None:
    """Writes `value` as indented JSON, atomically; NaN is refused."""
    files.write_text(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


def read_csv(path: Path) -> "DataFrame":
    """Returns a CSV of a study; names stay text."""
    import pandas

    try:
        return pandas.read_csv(path, dtype=dict.fromkeys(TEXT_COLUMNS, str), keep_default_na=False)
    except (OSError, ValueError) as error:
        raise WorkdirError(f"{path}: missing or damaged ({error}); {RERUN}") from error


def write_csv(path: Path, frame: "DataFrame") -> None:
    """Writes a table as CSV, atomically; nine digits identify a float32."""
    files.write_text(path, frame.to_csv(index=False, float_format="%.9g", lineterminator="\n"))


def write_checksums(folder: Path) -> None:
    """Writes the SHA-256 of the files of a trial to ``checksums.json``."""
    written = sorted([*folder.glob("*.csv"), *folder.glob("checkpoint/*.npz")])
    write_json(folder / CHECKSUMS, {path.relative_to(folder).as_posix(): files.sha256(path) for path in written})


def verify(folder: Path, *names: str) -> int:
    """Compares files of a trial (none for all) with ``checksums.json`` and returns their number."""
    digests = read_json(folder / CHECKSUMS)
    for name in names or digests:
        path = folder / name
        if not path.is_file() or files.sha256(path) != digests.get(name):
            raise WorkdirError(f"{path} is missing or damaged; remove {folder} and {RERUN}")
    return len(names or digests)


def verify_all(workdir: Path) -> int:
    """Compares all files of all finished trials with ``checksums.json`` (see `verify`); returns their number."""
    names = [trial["name"] for trial in read_trials(workdir)]
    return sum(verify(trial_folder(workdir, name)) for name in names if is_finished(workdir, name))


def _git_revision() -> str:
    """Returns the commit that alljax runs from, with ``+`` if files differ from it; empty outside a checkout."""
    git = ["git", "-C", str(Path(alljax.__file__).parents[1]), "describe", "--always", "--abbrev=40", "--exclude=*"]
    if not (Path(alljax.__file__).parents[1] / ".git").exists() or not shutil.which("git"):
        return ""
    return subprocess.run([*git, "--dirty=+"], capture_output=True, text=True).stdout.strip()
