"""Which study a work folder holds: trials by settings that change results, images, folds and weights by SHA-256."""

import contextlib
import importlib.metadata
import platform
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import logging

import alljax
from alljax import config as configs
from alljax import files
from alljax.errors import WorkdirError, first_few
from alljax.study import sweep, workdir
from alljax.study.sweep import Trial

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "scikit-learn", "pillow")
FORMAT = 1  # increased when the files of a work folder change so that older ones cannot be read

NOT_COMPARED = (
    "data.source", "data.sources", "data.allow_partial", "data.on_error", "data.cache", "weights.path", "train.loggers",
    "train.log_steps", "train.checkpoint_steps", "train.keep_latest", "features.memory", "profile",
    "report.images", "report.subjects",
)  # fmt: skip
"""Settings that may change in a work folder: results depend on the images and weights, not on their paths."""

Settings = Mapping[str, dict[str, Any]]
"""The flattened config of each trial, by name."""


def check(folder: Path, given: Settings, force: bool) -> None:
    """Checks that a study with these trials can use `folder`; with `force` unfinished runs may have another config."""
    files.check_output(folder, folder=True)
    workdir.check_links(folder)
    if (folder / "config.json").is_file():
        workdir.check_folder(folder)
    stored = stored_trials(folder) if _is_used(folder) else {}
    if stored and (lines := changes(stored, given)) and not force:
        ways = "choose another --workdir, remove it, or continue the unfinished runs with --resume=force"
        raise WorkdirError(f"{folder} holds another study ({first_few(lines)}); {ways}")
    for name, config in stored.items():
        trial = workdir.trial_folder(folder, name)
        if _results(trial) and (lines := changes({name: config}, {name: given.get(name, config)})):
            ways = "remove it to train this trial again, or choose another --workdir"
            raise WorkdirError(f"{trial} holds finished runs of another config ({first_few(lines)}); {ways}")


def claim(
    folder: Path, config: dict[str, Any], trials: Sequence[Trial], inputs: dict[str, str], source_state: str
) -> None:
    """Writes the flattened config, the trials, and environment.json with the SHA-256 of all inputs, by name."""
    given, written = settings(trials, config["data.classes"]), environment() | {"inputs": dict(inputs)}
    if _is_used(folder):
        for path in (found := workdir.damaged(folder, content=True)):
            logging.warning(f"{path}: missing or damaged; it is written again")
        if folder / "environment.json" in found:  # metrics.json has the SHA-256 of the images, too
            summary = workdir.read_json(folder / "metrics.json")
            written["inputs"]["images"] = summary["dataset"]["sha256"]
        else:
            written = dict(workdir.read_json(folder / "environment.json"))
        if forced := changes(stored_trials(folder), given):
            written["forced"] = [*written.get("forced", []), forced]
        written["inputs"] = inputs | written["inputs"]  # weights of trials that were added, or skipped before
        if other := input_changes(written["inputs"], inputs):
            raise WorkdirError(f"{folder} holds a study of {other}; choose another --workdir, or remove it")
    listed = [{"name": trial.name, "split": trial.split, "config": given[trial.name]} for trial in trials]
    written |= {"source_state": source_state}
    workdir.write_study(folder, {"trials.json": listed, "config.json": config, "environment.json": written})


def exclusive(folder: Path, shard: tuple[int, int]) -> contextlib.AbstractContextManager[None]:
    """Locks a work folder, or one shard of its study, for this process; creates the folder."""
    index, count = shard
    path = folder / (".lock" if count == 1 else f".lock-{index}-of-{count}")
    return files.file_lock(path, f"another alljax uses {folder}; wait for it or choose another --workdir")


def settings(trials: Sequence[Trial], classes: Sequence[str] = ()) -> dict[str, dict[str, Any]]:
    """Returns the flattened config of each trial; `classes` are those of the images, if they are known."""
    flat = {trial.name: configs.flatten(trial.config) for trial in trials}
    return {name: config | {"data.classes": classes or config["data.classes"]} for name, config in flat.items()}


def stored_trials(folder: Path) -> dict[str, dict[str, Any]]:
    """Returns the settings of the trials in a work folder: those in trials.json, else those of config.json."""
    if folder / "trials.json" not in workdir.damaged(folder, ["trials.json"], content=True):
        return workdir.read_trials(folder, verified=False)
    if workdir.damaged(folder, ["config.json"], content=True):
        ways = "restore one of them from a copy, or choose another --workdir"
        raise WorkdirError(f"trials.json and config.json in {folder} are missing or damaged; {ways}")
    config = workdir.read_json(folder / "config.json")
    return settings(sweep.expand(configs.vary(configs.default_config(), config)), config["data.classes"])


def changes(stored: Settings, given: Settings) -> list[str]:
    """Returns how the given trials differ from the stored ones; classes that are not set are ignored."""
    lines = []
    for name in sorted(stored.keys() & given.keys()):
        for key, value in given[name].items():
            known, not_set = stored[name].get(key), key == "data.classes" and not value
            if key not in NOT_COMPARED and not not_set and configs.tuples(known) != configs.tuples(value):
                lines.append(f"{key}: {known!r} → {value!r}")
    lines += [f"trial {name} is not in the config" for name in stored if name not in given]
    lines += [f"trial {name} is not in the folder" for name in given if name not in stored]
    return list(dict.fromkeys(lines))


def input_changes(stored: Mapping[str, str], given: Mapping[str, str]) -> str:
    """Returns which inputs have another SHA-256 in `given` than stored, by name; empty for none."""
    changed = [name for name in given if stored.get(name) != given[name]]
    lines = [f"{name} (SHA-256 {stored.get(name, 'none')[:16]} → {given[name][:16]})" for name in changed]
    return f"other inputs: {first_few(lines)}" if lines else ""


def _results(trial_folder: Path) -> list[Path]:
    """Returns the checksums of the finished trial and the results of its finished runs."""
    return [*trial_folder.glob(workdir.CHECKSUMS), *trial_folder.glob("runs/*/result.npz")]


def _is_used(folder: Path) -> bool:
    """Returns whether the folder has results or checkpoints."""
    saved = any(path.name.isdecimal() for path in folder.glob("trials/*/runs/*/checkpoints/*"))
    return saved or any(_results(trial) for trial in folder.glob("trials/*"))


def environment() -> dict[str, Any]:
    """Returns versions, devices, the command and the commit of alljax, with ``+`` if files differ from it."""
    import jax

    root, revision, words = Path(alljax.__file__).parents[1], "", sys.argv[1:]
    if (root / ".git").exists() and shutil.which("git"):
        git = ["git", "-C", str(root), "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty=+"]
        revision = subprocess.run(git, capture_output=True, text=True).stdout.strip()
    return {
        "alljax": alljax.__version__,
        "format": FORMAT,
        "git_revision": revision,
        "command": shlex.join(["alljax", *words]) if words[:1] in (["study"], ["train"]) else "alljax.run_study(…)",
        "python": platform.python_version(),
        "platform": platform.platform(),
        "devices": [f"{device.platform} {device.device_kind}" for device in jax.devices()],
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
    }
