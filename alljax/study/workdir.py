"""Reads and writes the files of a work folder, which are compared with ``checksums.json``; links are refused."""

import contextlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas
from absl import logging

from alljax import config as configs
from alljax import files
from alljax.errors import Problems, WorkdirError, first_few
from alljax.study.sweep import trial_name_problem

RERUN = "run the same `alljax study` command again"
CHECKSUMS = "checksums.json"
PARAMETERS = "checkpoint/parameters.npz"
SELECTIONS = "checkpoint/selections.npz"
ESTIMATORS = "checkpoint/classifiers.skops"
TRAINING_FEATURES = "checkpoint/training_features.npz"
STUDY_FILES = ("config.json", "environment.json", "trials.json", "images.csv", "split.csv", "metrics.json")
EVALUATION, SUBJECTS = "evaluation.json", "subjects.csv"  # of a study whose trials are all done, see `assessment`
ROBUSTNESS = "robustness.json"  # of a trial, without a checksum: it can be removed
INNER_PREDICTIONS = "inner_predictions.csv"  # of a trial with inner folds
HISTORY = "history.csv"  # of a trial that is trained in epochs
TRIAL_FILES = ("predictions.csv", "metrics.json")  # of each finished trial

PLACES = (
    "*", "tables/*", "figures/*", "external/*", "external/*/*", "trials/*", "trials/*/*", "trials/*/checkpoint/*",
    "trials/*/runs/*/*",
)  # fmt: skip
"""Where alljax reads and writes in a work folder."""


def trial_folder(workdir: Path, name: str) -> Path:
    """Returns the folder of a trial."""
    return workdir / "trials" / name


def check_folder(workdir: Path) -> None:
    """Raises `WorkdirError` if a folder is no work folder of a study, has links, or the layout of an old version."""
    check_links(workdir)
    if not any((workdir / name).is_file() for name in (CHECKSUMS, "trials.json")):
        reason = "it has no trials.json, which earlier versions did not write"
        raise WorkdirError(f"{workdir} is not the --workdir of an alljax study: {reason}; choose another --workdir")


def check_links(workdir: Path) -> None:
    """Raises `WorkdirError` for a link or a special file where alljax reads or writes: it may lead outside."""
    for path in (path for place in PLACES for path in workdir.glob(place)):
        special = not (path.is_file() or path.is_dir()) and path.exists()  # or another process has removed it
        if path.is_symlink() or special:
            raise WorkdirError(f"{path} is a link or a special file, which is not followed; replace it by a copy")


def read_trials(workdir: Path, verified: bool = True) -> dict[str, dict[str, Any]]:
    """Returns the settings (dotted key to value) of each trial of the study in trials.json, by its name."""
    path = workdir / "trials.json"
    if verified:
        verify(workdir, path.name)
    defaults = configs.flatten(configs.default_config())  # of settings that are newer than the study
    trials = {trial["name"]: defaults | trial["config"] for trial in read_json(path)}
    for name in trials:
        if problem := trial_name_problem(name):  # it is the name of a folder
            raise WorkdirError(f"{path}: the name of a trial {problem}")
    return trials


def read_result(workdir: Path, name: str) -> dict[str, Any]:
    """Returns metrics.json of a trial: its metrics, ``{"failed": reason}``, or nothing where it is missing."""
    folder = trial_folder(workdir, name)
    if (folder / CHECKSUMS).is_file():
        return dict(read(folder, "metrics.json"))
    try:
        found = dict(read_json(folder / "metrics.json"))
    except WorkdirError:
        return {}
    return found if "failed" in found else {}  # else it is not complete


def is_finished(workdir: Path, name: str) -> bool:
    """Returns whether all results of a trial exist and are intact (see `damaged`)."""
    return not damaged(trial_folder(workdir, name))


def discard_damaged(workdir: Path, names: Iterable[str]) -> None:
    """Makes trials with a missing or damaged file unfinished, and says which file."""
    for folder in (trial_folder(workdir, name) for name in names):
        if (folder / CHECKSUMS).is_file() and (paths := damaged(folder)):
            logging.warning(f"{first_few(map(str, paths))}: missing or damaged; the trial is trained again")
            begin_trial(folder)


def begin_trial(folder: Path) -> None:
    """Makes a trial unfinished, before its files are written again."""
    for name in (CHECKSUMS, "metrics.json", ROBUSTNESS):
        (folder / name).unlink(missing_ok=True)


def read(folder: Path, name: str) -> Any:
    """Returns the JSON of a file in the folder of a study or trial, after comparing it with the checksum."""
    verify(folder, name)
    return read_json(folder / name)


def read_json(path: Path) -> Any:
    """Returns the JSON in a file."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise WorkdirError(f"{path}: missing or damaged ({error}); {RERUN}") from error


def write_json(path: Path, value: Any) -> None:
    """Writes `value` as indented JSON; NaN is refused."""
    files.write_text(path, _to_json(value))


def read_csv(folder: Path, file: str, types: Mapping[str, type]) -> pandas.DataFrame:
    """Returns columns of a CSV by their types, after comparing it with its checksum; texts as before `to_csv`."""
    verify(folder, file)
    empty = {name: [""] for name, kind in types.items() if kind is float}
    try:
        frame = pandas.read_csv(folder / file, usecols=list(types), dtype=types, keep_default_na=False, na_values=empty)
    except (OSError, ValueError, OverflowError) as error:
        reason = " ".join(str(error).split())[:200]
        raise WorkdirError(f"{folder / file}: damaged or without its columns ({reason}); {RERUN}") from error
    for name in (name for name, kind in types.items() if kind is str):
        frame[name] = frame[name].str.replace(r"^'('*[=+\-@\t\r])", r"\1", regex=True)
    return frame


def write_csv(path: Path, frame: pandas.DataFrame) -> None:
    """Writes a table as CSV, see `to_csv`."""
    files.write_text(path, to_csv(frame))


def to_csv(frame: pandas.DataFrame) -> str:
    """Returns a table as the text of a CSV; texts by `files.csv_text`, numbers with the nine digits of a float32."""
    texts = frame.select_dtypes(exclude="number")
    frame = frame.assign(**{name: texts[name].map(files.csv_text) for name in texts})
    return str(frame.to_csv(index=False, float_format="%.9g", lineterminator="\n"))


def write_study(workdir: Path, contents: Mapping[str, Any]) -> None:
    """Writes files of a study (texts or JSON) with their checksums, if they change; shards share the folder."""
    with files.file_lock(workdir / ".lock-files"):
        for name, content in contents.items():
            data, path = (content if isinstance(content, str) else _to_json(content)).encode(), workdir / name
            if not path.is_file() or path.read_bytes() != data:
                files.write_bytes(path, data)
        record(workdir, contents)


def record(folder: Path, names: Iterable[str]) -> None:
    """Writes SHA-256, size and time of files into ``checksums.json``, which keeps the entries of other files."""
    path, entries = folder / CHECKSUMS, {}
    with contextlib.suppress(WorkdirError):  # a damaged one is written again
        entries = read_checksums(folder)
    for name in names:
        entries[name] = {"sha256": files.sha256(folder / name)} | _stamp(folder / name)
    write_json(path, dict(sorted(entries.items())))


def damaged(folder: Path, names: Sequence[str] = (), content: bool = False) -> list[Path]:
    """Returns which files (by default all) are missing or differ; without `content` by size and time, if they fit."""
    try:
        entries = read_checksums(folder)
    except WorkdirError:
        return [folder / CHECKSUMS]
    needed, found = STUDY_FILES if "trials.json" in entries else TRIAL_FILES, []
    for name in names or sorted({*needed, *entries}):
        file, recorded = folder / name, entries.get(name, {})
        if file.is_file() and not content and _stamp(file).items() <= recorded.items():
            continue
        if not file.is_file() or files.sha256(file) != recorded.get("sha256"):
            found.append(file)
            with contextlib.suppress(OSError):
                os.utime(file)  # so that a restart, which compares times, finds the damage, too
    return found


def verify(folder: Path, *names: str) -> None:
    """Raises `WorkdirError` for files (none for all) whose content is not as in ``checksums.json``."""
    if found := damaged(folder, names, content=True):
        listed = first_few(map(str, found))
        raise WorkdirError(f"{listed}: missing, or not as in {CHECKSUMS}; {RERUN}, which restores it")


def verify_all(workdir: Path) -> int:
    """Compares all files of a study and its finished trials with their checksums; returns their number."""
    folders, problems = [workdir, *(path.parent for path in workdir.glob(f"trials/*/{CHECKSUMS}"))], Problems()
    for folder in folders:
        with problems.collect():
            verify(folder)
    problems.report()
    return sum(len(read_checksums(folder)) for folder in folders)


def read_checksums(folder: Path) -> dict[str, Any]:
    """Returns what `record` wrote for a study or trial, by file name."""
    path = folder / CHECKSUMS
    entries = read_json(path)
    listed = {*STUDY_FILES, EVALUATION, SUBJECTS, *TRIAL_FILES, HISTORY, INNER_PREDICTIONS}
    if not {*entries} <= listed | {PARAMETERS, SELECTIONS, ESTIMATORS, TRAINING_FEATURES}:
        raise WorkdirError(f"{path} lists unknown files; {RERUN}")
    return dict(entries)


def _stamp(path: Path) -> dict[str, int]:
    status = path.stat()
    return {"bytes": status.st_size, "modified": status.st_mtime_ns}


def _to_json(value: Any) -> str:
    return json.dumps(value, indent=1, allow_nan=False) + "\n"
