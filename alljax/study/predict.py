"""Predictions of a finished study for new images."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging
from ml_collections import ConfigDict

from alljax import files, progress
from alljax.data.dataset import Dataset
from alljax.data.inspection import inspect
from alljax.data.readers import open_unlabeled
from alljax.study import ensemble, workdir
from alljax.study.experiment import open_images
from alljax.study.results import Study
from alljax.training.feature_extraction import FeatureExtractor
from alljax.training.network import open_networks


def predict(folder: Path, name: str, weights: str, images: Sequence[Path], out: Path) -> Dataset:
    """Writes a CSV ``path, predicted, prob_<class>…`` for images outside the study; returns the images.

    The probability is the mean over all heads (or networks) of the trial (by default the best), one per seed and fold.
    `weights` is the file of the backbone's weights or a folder with it, if it was moved since the study.
    """
    import pandas

    opened = ensemble.open_ensemble(folder, name, weights)
    logging.info(f"trial {opened.trial}")
    dataset = _open_images(images, opened.study, opened.config)
    with progress.bar("predict", len(dataset.records), "images") as update:
        means = []
        for block in opened.predict(dataset):
            means.append(block.probabilities.mean(0))
            update(len(means[-1]))
    probabilities = np.concatenate(means)
    predicted = np.array(dataset.classes)[probabilities.argmax(1)]
    columns = {"path": [record.path for record in dataset.records], "predicted": predicted}
    columns |= {f"prob_{name}": probabilities[:, index] for index, name in enumerate(dataset.classes)}
    workdir.write_csv(out, pandas.DataFrame(columns))
    return dataset


def _open_images(images: Sequence[Path], study: Study, config: ConfigDict) -> Dataset:
    """Returns the images without labels; logs remarks, and a size other than in the study."""
    opened = replace(open_unlabeled(images, config.data.synthetic), classes=tuple(study.classes))
    dataset, inspection = inspect(opened, config.data.on_error)
    for note in dataset.notes:
        logging.info(note)
    size, expected = inspection.sizes.most_common(1)[0][0], tuple(study.metrics["dataset"]["image_size"])
    if size != expected:
        logging.info(
            f"these images have {size[0]} × {size[1]} pixels, those of the study {expected[0]} × {expected[1]}: if the "
            "scale is the same, crop them to that size first, or each cell looks larger or smaller than it is"
        )
    return dataset


def write_features(config: ConfigDict, out: Path) -> tuple[Dataset, int]:
    """Writes ``features`` float32 (N, D), ``paths``, ``labels`` and ``subjects`` (N,) to an .npz.

    With ``features.augment=dihedral`` also ``views`` float32 (N, 8, D), the first of which is ``features``. Returns the
    images and D.
    """
    (network,) = open_networks([config])
    dataset, inspection = open_images(config)
    extractor = FeatureExtractor(config, dataset, inspection.digests)
    features = extractor.load(network, config.features.augment)
    arrays: dict[str, Any] = {
        "features": features[:, 0],
        "paths": np.array([record.path for record in dataset.records]),
        "labels": np.array([record.label for record in dataset.records], np.int32),
        "subjects": np.array([record.subject for record in dataset.records]),
    }
    if features.shape[1] > 1:
        arrays["views"] = features
    with files.atomic_write(out) as file:
        np.savez(file, **arrays)
    return dataset, features.shape[2]
