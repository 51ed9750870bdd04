"""Cells that are done, from one folder or from those of several shards, put together to a study's metrics.json."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import logging

from alljax import config as configs
from alljax import files
from alljax.errors import WorkdirError, first_few, plural
from alljax.study import finished, results, sweep, workdir

FAILED = "failed.txt"
"""In a cell's folder: why it could not be trained."""

SHARED = ("config.json", "environment.json", "material.json")
"""What shards have in common; material.json, by which a folder is known as a study's, comes last."""


def join(folder: Path, shards: Sequence[Path]) -> dict[str, Any]:
    """Takes over the cells of other folders of the same study, and writes metrics.json.

    Args:
        folder: the study's working directory; made from the first shard if it holds no study yet.
        shards: working directories in which other cells of it were run; often none, where shards shared a folder.

    Returns:
        What metrics.json holds.

    Raises:
        WorkdirError: no study, one of another config or other images, a cell that differs between folders, or no
            cell done anywhere.
    """
    for shard in shards:
        if not (shard / "material.json").is_file():
            raise WorkdirError(f"{shard} is no --workdir of a study or of a shard of one (no material.json in it)")
    if shards and not (folder / "material.json").is_file():
        files.check_output(folder / "metrics.json")
        folder.mkdir(parents=True, exist_ok=True)
        for path in (*shards[0].glob("split*.csv"), *(shards[0] / name for name in SHARED)):
            files.write_bytes(folder / path.name, _bytes(path))
    for shard in shards:
        _check_same_study(folder, shard)
        for trial in sweep.expand(configs.unflatten(workdir.read_json(folder / "config.json"))):
            _take_over(folder / "trials" / trial.name, shard / "trials" / trial.name)
    summary = summarize(folder)
    for name, reason in summary["failed"].items():
        logging.info(f"{name} failed: {reason}")
    if summary["missing"]:
        logging.info(f"{plural(len(summary['missing']), 'model')} missing: {first_few(summary['missing'])}")
    if not summary["trials"]:
        raise WorkdirError(f"{folder}: no model of this study is done yet; {finished.AGAIN}")
    workdir.write_json(folder / "metrics.json", summary)
    return summary


def summarize(folder: Path) -> dict[str, Any]:
    """Returns what metrics.json is to hold: the cells that are done, whole, and the names of the others.

    Args:
        folder: the working directory of a study that was begun.

    Raises:
        WorkdirError: it is none, or a file of it is damaged.
    """
    material = workdir.read_json(folder / "material.json")
    done: dict[str, Any] = {}
    missing, failed = [], {}
    for trial in sweep.expand(configs.unflatten(workdir.read_json(folder / "config.json"))):
        here = folder / "trials" / trial.name
        if results.whole(here):
            done[trial.name] = workdir.read_json(here / "metrics.json")
        elif (here / FAILED).is_file():
            failed[trial.name] = (here / FAILED).read_text(encoding="utf-8").strip()
        else:
            missing.append(trial.name)
    first = next(iter(material["splits"].values()))
    return {"trials": done, **material, **first, "missing": missing, "failed": failed}


def _check_same_study(folder: Path, shard: Path) -> None:
    for name, what in (("config", "config"), ("environment", "input")):
        one, other = (workdir.read_json(each / f"{name}.json") for each in (folder, shard))
        if name == "config":
            lines = configs.difference(one, other)
        else:
            lines = workdir.input_difference(one.get("inputs", {}), other.get("inputs", {}))
        if lines:
            raise WorkdirError(
                f"{shard} holds a shard of another study than {folder}: another {what}, {workdir.shown(lines)}"
            )


def _take_over(here: Path, there: Path) -> None:
    """Copies a cell that is done there and not here; compares one that is done in both."""
    if problem := results.damage(there):
        logging.info(f"{problem}; left out")
        return
    if not (there / "metrics.json").is_file():
        if (there / FAILED).is_file() and not here.is_dir():
            _copy(there, here)
        return
    if results.whole(here):
        one, other = (workdir.read_json(each / "metrics.json")["sha256"] for each in (here, there))
        if one != other:
            raise WorkdirError(
                f"{here} and {there} disagree: the same model gave other numbers; remove the one you do not trust"
            )
        return
    _copy(there, here)


def _copy(there: Path, here: Path) -> None:
    """Copies a cell's folder, whole or not at all; what stood there before goes only when the copy is whole."""
    part = here.with_name(f".{here.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        shutil.copytree(there, part)
        shutil.rmtree(here, ignore_errors=True)
        part.rename(here)
    except OSError as error:  # shutil.Error, which lists several, is one
        shutil.rmtree(part, ignore_errors=True)
        raise WorkdirError(
            f"cannot copy {there} to {here}: {error.strerror or error}; make room, or copy it"
        ) from error


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise WorkdirError(f"{path}: cannot be read ({error.strerror or error})") from error
