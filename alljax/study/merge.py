"""Collects the finished trials of a study, from its folder and those of shards, in metrics.json."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import logging

from alljax import files
from alljax.errors import WorkdirError, first_few, plural
from alljax.study import workdir

SHARED = ("config.json", "environment.json", "split.csv", "metrics.json", "trials.json")
"""Files of the study that every shard has; the last one marks a complete copy."""

TABLES = ("history.csv", "predictions.csv")


def merge_shards(folder: Path, shards: Sequence[Path]) -> dict[str, Any]:
    """Copies the trials of other folders of the same study, and writes metrics.json.

    Args:
        folder: the study's working directory; created from the first shard if it holds no study yet.
        shards: working directories in which other trials of it were trained; none if the shards shared one folder.

    Returns:
        The content of metrics.json.
    """
    for shard in shards:
        workdir.check_version(shard)
    if not shards:
        workdir.check_version(folder)
    elif not (folder / "trials.json").is_file():
        try:
            contents = {name: (shards[0] / name).read_bytes() for name in SHARED}
        except OSError as error:
            raise WorkdirError(f"{shards[0]}: incomplete shard ({error}); {workdir.RERUN}") from error
        for name, content in contents.items():
            files.write_bytes(folder / name, content)
    for shard in shards:
        _check_same_study(folder, shard)
        for trial in workdir.read_trials(folder):
            _merge_trial(folder, shard, trial["name"])
    summary = summarize_study(folder, workdir.read_json(folder / "metrics.json"))
    for name, reason in summary["failed"].items():
        logging.info(f"{name} failed: {reason}")
    if summary["missing"]:
        logging.info(f"{plural(len(summary['missing']), 'trial')} missing: {first_few(summary['missing'])}")
    return summary


def summarize_study(folder: Path, description: dict[str, Any]) -> dict[str, Any]:
    """Writes and returns metrics.json: a description, the finished trials, and which ones failed or are missing."""
    trials = {trial["name"]: workdir.read_result(folder, trial["name"]) for trial in workdir.read_trials(folder)}
    summary = description | {
        "trials": {name: result for name, result in trials.items() if result and "failed" not in result},
        "missing": [name for name, result in trials.items() if not result],
        "failed": {name: result["failed"] for name, result in trials.items() if "failed" in result},
    }
    workdir.write_json(folder / "metrics.json", summary)
    return summary


def _check_same_study(folder: Path, shard: Path) -> None:
    inputs, other_inputs = (workdir.read_json(path / "environment.json")["inputs"] for path in (folder, shard))
    changes = first_few(workdir.changes(folder, workdir.read_json(shard / "config.json")))
    if changes := changes or workdir.input_changes(inputs, other_inputs):
        raise WorkdirError(f"{shard} holds a shard of another study than {folder}: {changes}")


def _merge_trial(folder: Path, shard: Path, name: str) -> None:
    """Copies a trial that is not finished in `folder`; compares one that is finished in both folders."""
    target, source = (workdir.trial_folder(path, name) for path in (folder, shard))
    finished = workdir.is_finished(shard, name)
    if finished:
        workdir.verify(source, *TABLES)
    if not workdir.is_finished(folder, name):
        if workdir.read_result(shard, name):
            _copy(source, target)
    elif finished:
        digests, others = (workdir.read_json(path / workdir.CHECKSUMS) for path in (target, source))
        if any(digests[table] != others[table] for table in TABLES):
            raise WorkdirError(f"{target} and {source} hold different results of the same trial; remove one of them")


def _copy(source: Path, target: Path) -> None:
    """Copies the folder of a trial; the previous one is removed when the copy is complete."""
    part = target.with_name(f".{target.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        shutil.copytree(source, part)
        shutil.rmtree(target, ignore_errors=True)
        part.rename(target)
    except OSError as error:  # shutil.Error, which lists several, is one
        raise files.write_error(target, error) from error
