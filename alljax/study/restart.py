"""Recognizes a finished study whose inputs have not changed, without reading images or importing JAX."""

import hashlib
from pathlib import Path

from ml_collections import ConfigDict

from alljax import config as configs
from alljax.data.dataset import Dataset
from alljax.data.readers import open_dataset
from alljax.errors import UserError
from alljax.study import results, sweep, workdir
from alljax.study.results import Study
from alljax.weights import store


def find_unchanged(config: ConfigDict, folder: Path) -> Study | None:
    """Returns the study in `folder` if all its trials are finished and config, images and weights are unchanged.

    Images are compared by paths, labels, size and modification time, weights by their hash, which is cached.
    """
    try:
        study = results.read_study(folder)
        trials = study.metrics["trials"].values()
        weights = {(trial["weights"]["path"], trial["weights"]["sha256"]) for trial in trials}
        unchanged = (
            not workdir.changes(folder, configs.flatten(config))
            and study.metrics["trials"] == {name: workdir.read_result(folder, name) for name in study.trials}
            and all(store.digest(Path(path)) == sha256 for path, sha256 in weights)
            and study.environment.get("source_state") == source_state(config)
        )
    except UserError:  # no study, or `run_study` reports it
        return None
    return study if unchanged else None


def source_state(config: ConfigDict) -> str:
    """Returns a hash of the records of the source and the stamps of their files; generated images have no files."""
    dataset, digest = open_records(config), hashlib.sha256()
    for record in dataset.records:
        digest.update(f"{record} {dataset.stamp(record) if dataset.stamp else ''}\n".encode())
    return digest.hexdigest()


def open_records(config: ConfigDict) -> Dataset:
    """Returns the data set of a study without reading its images."""
    return open_dataset(config.data, sweep.subsets(sweep.expand(config)))
