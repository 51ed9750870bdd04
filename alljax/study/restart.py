"""Recognizes a finished study whose inputs have not changed, without reading images or importing JAX."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from alljax.data.dataset import Dataset
from alljax.data.readers import open_dataset
from alljax.errors import UserError
from alljax.study import identity, results, sweep, workdir
from alljax.study.results import Study
from alljax.weights import store


def find_unchanged(config: ConfigDict, folder: Path) -> Study | None:
    """Returns the study in `folder` if all its trials are finished and config, images and weights are unchanged.

    Images are compared by paths, labels, size and modification time, weights by their hash, which is cached.
    """
    try:
        study, given = results.read_study(folder), identity.settings(sweep.expand(config))
        stored = {name: study.settings(name) for name in study.trials}
        found = {name: workdir.read_result(folder, name) for name in study.trials}
        unchanged = (
            not identity.changes(stored, given)
            and not workdir.damaged(folder)
            and all(workdir.is_finished(folder, name) for name in study.trials)
            and study.metrics["trials"] == found
            and all(store.digest(path) == sha256 for path, sha256 in _weight_files(given, found))
            and study.environment.get("source_state") == source_state(config)
        )
    except UserError:  # no study, or `run_study` reports it
        return None
    return study if unchanged else None


def _weight_files(given: identity.Settings, results: Mapping[str, Any]) -> set[tuple[Path, str]]:
    """Returns the file that ``weights.path`` names, else the one that was used, and the SHA-256 of the one used."""
    now = {name: Path(given[name]["weights.path"]).expanduser() for name in results}
    used = {name: result["weights"] for name, result in results.items()}
    return {(Path(of["path"]) if now[name].is_dir() else now[name], of["sha256"]) for name, of in used.items()}


def source_state(config: ConfigDict) -> str:
    """Returns a hash of the records of the source and the stamps of their files; generated images have no files."""
    dataset, digest = open_records(config), hashlib.sha256()
    for record in dataset.records:
        digest.update(f"{record} {dataset.stamp(record) if dataset.stamp else ''}\n".encode())
    return digest.hexdigest()


def open_records(config: ConfigDict) -> Dataset:
    """Returns the data set of a study without reading its images."""
    return open_dataset(config.data, sweep.subsets(sweep.expand(config)))
