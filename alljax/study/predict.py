"""Predictions of a finished study for new images."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import logging
from flax.traverse_util import flatten_dict
from ml_collections import ConfigDict

from alljax import config as configs
from alljax import files, progress
from alljax.data.dataset import Dataset
from alljax.data.inspection import inspect
from alljax.data.readers import open_unlabeled
from alljax.errors import WorkdirError
from alljax.study import results, workdir
from alljax.study.experiment import open_images
from alljax.study.results import Study
from alljax.training import checkpoints
from alljax.training.feature_extraction import FeatureExtractor, ImageSources
from alljax.training.fine_tuning import FineTuner
from alljax.training.fold_loader import FoldLoader
from alljax.training.head_training import HeadTrainer
from alljax.training.network import Network, open_networks
from alljax.training.sampling import FoldRows
from alljax.training.sharding import make_mesh
from alljax.weights import store

Load = Callable[[Mapping[str, tuple[int, ...]]], list[Any]]
"""From the shapes of a fold's parameters, by "/"-joined names, to the stored parameters of each fold."""


def predict(folder: Path, name: str, weights: str, images: Sequence[Path], out: Path) -> Dataset:
    """Writes a CSV ``path, predicted, prob_<class>…`` for images outside the study; returns the images.

    The probability is the mean over all heads (or networks) of the trial (by default the best), one per seed and fold.
    `weights` is the file of the backbone's weights or a folder with it, if it was moved since the study.
    """
    import pandas

    study = results.read_study(folder)
    name = name or study.ranking.best
    if name not in study.metrics["trials"]:
        raise WorkdirError(f"{folder} has no finished trial {name!r}; it has {', '.join(study.metrics['trials'])}")
    config = configs.vary(configs.default_config(), study.settings(name))
    if not config.study.checkpoints:
        raise WorkdirError(
            f"{folder} has no parameters (study.checkpoints=False) and cannot predict; run the study with them"
        )
    network = _open_network(study, name, config, weights)
    logging.info(f"trial {name}")
    dataset, digests = _open_images(images, study, config)
    trial_folder = workdir.trial_folder(folder, name)
    folds = [str(fold) for fold in range(len(study.split_of(name)["protocol"]["test_images"]))]
    workdir.verify(trial_folder, workdir.PARAMETERS)

    def load(shapes: Mapping[str, tuple[int, ...]]) -> list[Any]:
        expected = {f"{fold}/{path}": shape for fold in folds for path, shape in shapes.items()}
        loaded = checkpoints.load_arrays(trial_folder / workdir.PARAMETERS, expected)
        return [loaded[fold] for fold in folds]

    predict_all = _predict_heads if config.train.mode == "frozen" else _predict_networks
    probabilities = predict_all(config, network, dataset, digests, load)
    if not np.isfinite(probabilities).all():
        raise WorkdirError(f"{folder}: trial {name} predicts no numbers; its parameters are damaged, train it again")
    predicted = np.array(dataset.classes)[probabilities.argmax(1)]
    columns = {"path": [record.path for record in dataset.records], "predicted": predicted}
    columns |= {f"prob_{name}": probabilities[:, index] for index, name in enumerate(dataset.classes)}
    workdir.write_csv(out, pandas.DataFrame(columns))
    return dataset


def _predict_heads(
    config: ConfigDict, network: Network, dataset: Dataset, digests: tuple[str, ...], load: Load
) -> np.ndarray:
    """Returns the mean probabilities of heads, which are tested on images without augmentation, too."""
    trainer = HeadTrainer(config, len(dataset.classes), network.feature_count)
    params = jax.eval_shape(trainer.init, jax.random.split(jax.random.key(0), config.study.seeds)).eval_params
    heads = [flatten_dict(head, sep="/") for head in load({path: leaf.shape for path, leaf in params.items()})]
    features = FeatureExtractor(config, ImageSources(config, dataset), digests).load(network, "none")
    labels, rows = np.zeros(len(features), np.int32), np.arange(len(features))
    return np.concatenate([trainer.evaluate(head, features, labels, rows)[1] for head in heads]).mean(0)


def _predict_networks(
    config: ConfigDict, network: Network, dataset: Dataset, digests: tuple[str, ...], load: Load
) -> np.ndarray:
    """Returns the mean probabilities of fine-tuned networks; `network` has the parameters that were not trained."""
    mesh, rows, num_classes = make_mesh(config), np.arange(len(dataset.records)), len(dataset.classes)
    tuner, found = FineTuner(config, network, num_classes, mesh), []
    trained = {"params": tuner.abstract.eval_params, "batch_stats": tuner.abstract.batch_stats}
    shapes = {path: (config.study.seeds, *leaf.shape) for path, leaf in flatten_dict(trained, sep="/").items()}
    parameters = load(shapes)
    images = ImageSources(config, dataset).open(network, several_times=True)
    fold = FoldRows(rows, len(rows), rows, len(rows), rows, len(rows), np.ones(num_classes), 0, 0)
    loader = FoldLoader(config, images, fold, jax.random.key(0), mesh)
    with progress.bar("predict", len(parameters) * config.study.seeds * len(rows), "images") as update:
        for of_fold, seed in itertools.product(parameters, range(config.study.seeds)):
            tree = jax.tree.map(lambda leaf, seed=seed: leaf[seed], of_fold)
            state = tuner.evaluation_state(tree["params"], tree.get("batch_stats", {}))
            found.append(jax.nn.softmax(loader.test(partial(tuner.logits, state))))
            update(len(rows))
    return np.asarray(found, np.float64).mean(0).astype(np.float32)


def _open_network(study: Study, name: str, config: ConfigDict, weights: str) -> Network:
    """Returns the backbone of a trial with the weights that the study used."""
    used = study.metrics["trials"][name]["weights"]
    recorded = used["path"] if Path(used["path"]).is_file() else config.weights.path or used["path"]
    file = Path(weights or recorded).expanduser()
    if file.is_dir():
        stored = (path for path in sorted(file.iterdir()) if path.suffix.lower() in store.SUFFIXES and path.is_file())
        file = next((path for path in stored if store.digest(path) == used["sha256"]), file)
    if not file.is_file():
        problem = f"no weight file with the SHA-256 {used['sha256']}" if file.is_dir() else "no such file"
        raise WorkdirError(f"{file}: {problem}; give the study's weights with --weights=FILE or --weights=FOLDER")
    (network,) = open_networks([configs.vary(config, {"weights.path": str(file), "weights.name": ""})])
    if network.weights.sha256 != used["sha256"]:
        raise WorkdirError(f"{file} is not the weight file of {study.folder}, whose SHA-256 is {used['sha256']}")
    return network


def _open_images(images: Sequence[Path], study: Study, config: ConfigDict) -> tuple[Dataset, tuple[str, ...]]:
    """Returns the images without labels and their digests; logs remarks, and a size other than in the study."""
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
    return dataset, inspection.digests


def write_features(config: ConfigDict, out: Path) -> tuple[Dataset, int]:
    """Writes ``features`` float32 (N, D), ``paths``, ``labels`` and ``subjects`` (N,) to an .npz.

    With ``features.augment=dihedral`` also ``views`` float32 (N, 8, D), the first of which is ``features``. Returns the
    images and D.
    """
    (network,) = open_networks([config])
    dataset, inspection = open_images(config)
    extractor = FeatureExtractor(config, ImageSources(config, dataset), inspection.digests)
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
