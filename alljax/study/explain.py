"""Explains what a finished trial uses in images, and compares them with the training images in feature space."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from absl import logging
from flax.traverse_util import flatten_dict, unflatten_dict
from PIL import Image
from scipy.stats import spearmanr

from alljax import files, progress
from alljax.data.dataset import Dataset
from alljax.data.inspection import inspect
from alljax.data.readers import open_unlabeled
from alljax.errors import ConfigError, DataError, UserError, plural, unknown_name
from alljax.evaluation import feature_space
from alljax.study import results, workdir
from alljax.study.ensemble import Ensemble
from alljax.study.predict import Model
from alljax.training.attribution import Explainer
from alljax.training.feature_extraction import FeatureExtractor, image_reader

if TYPE_CHECKING:
    from pandas import DataFrame

METHODS = {"grad_cam": "Grad-CAM", "occlusion": "occlusion"}
"""Maps of an `Attribution`, and the names of the methods."""

BLACK = 10
"""Largest value of a channel, 0 … 255, in a black background: JPEG files have noise there."""

NEGLIGIBLE = 0.1
"""Positive values of a map below this share of its largest absolute value become 0."""

CHECKED, UNRELATED = 5, 0.5
"""Images explained with a random backbone, too; mean rank correlation below which maps depend on the parameters."""


@dataclass(frozen=True)
class ExplainedImage:
    """An image with the maps of one class."""

    path: str
    pixels: np.ndarray  # uint8 (S, S, 3), as the network receives them
    label: int  # the class that is explained
    probabilities: np.ndarray  # (C,)
    features: np.ndarray  # (D,)
    maps: dict[str, np.ndarray]  # method to (S, S), interpolated, 0 where nothing supports the class
    correlations: list[dict[str, Any]]  # of the maps with those of random parameters, rows of a table

    @property
    def shares(self) -> dict[str, float]:
        """The share of the pixels inside the cell, ``cell_area``, and of each map; NaN without a black background.

        Pixels of a cell are not black. A background is black if the corners are. A map of zeros has no share.
        """
        cell = self.pixels.max(2) > BLACK
        black, parts = not cell[[0, 0, -1, -1], [0, -1, 0, -1]].any(), {"cell_area": np.ones(cell.shape)}
        parts |= {f"{method}_inside": values for method, values in self.maps.items()}
        known = {name: values for name, values in parts.items() if black and values.any()}
        return dict.fromkeys(parts, np.nan) | {name: part[cell].sum() / part.sum() for name, part in known.items()}


@dataclass(frozen=True)
class Explanation:
    """What `explain` finds."""

    class_names: list[str]
    dataset: Dataset  # the images that could be read
    images: list[ExplainedImage]
    tables: "dict[str, DataFrame]"  # by file name
    findings: list[str]  # one line each
    training: Dataset | None = None  # None where the images of the study cannot be read


def explain(folder: Path, trial: str, weights: str, images: Sequence[Path], class_name: str = "") -> Explanation:
    """Explains images with all heads of a trial of the study in `folder`, by default the best.

    Args:
        folder: the working directory of a study.
        trial: its name, or empty.
        weights: file of the backbone's weights or a folder with it, if it was moved since the study.
        images: sources as for `open_unlabeled`; images that cannot be read are left out with a note.
        class_name: the class that is explained; empty for the predicted class of each image.
    """
    import pandas

    model = Model.open(folder, trial, weights)
    study, config, network = model.ensemble.study, model.ensemble.config, model.ensemble.network
    if class_name and class_name not in study.classes:
        raise ConfigError(unknown_name("class", class_name, study.classes))
    dataset, inspection = inspect(open_unlabeled(images, config.data.synthetic, config.data.name_pattern), "skip")
    for note in dataset.notes:
        logging.info(note)
    explainer, members = Explainer(network, config.model.hidden, len(study.classes)), _members(model.ensemble)
    label, explained = study.classes.index(class_name) if class_name else None, []
    with progress.bar("explain", len(dataset.records), "images") as update:
        for number, record in enumerate(dataset.records):
            pixels = image_reader(dataset, network).take(np.array([number], np.int32), np.array([True]))[0]
            explained.append(replace(_explain_image(explainer, members, pixels, number, label), path=record.path))
            update(1)
    classes = np.array(study.classes)
    table = pandas.DataFrame([image.shares for image in explained])
    probabilities = np.stack([image.probabilities for image in explained])
    table.insert(0, "path", [image.path for image in explained])
    table.insert(1, "predicted", classes[probabilities.argmax(1)])
    table.insert(2, "explained", classes[[image.label for image in explained]])
    table[[f"prob_{name}" for name in classes]] = probabilities
    table["in_training"] = [pixels in model.training_images for pixels in inspection.pixels]
    checks = pandas.DataFrame([row | {"path": image.path} for image in explained for row in image.correlations])
    by_class = table.groupby("explained")[list(explained[0].shares)]
    summary = by_class.mean().assign(images=by_class.size()).reset_index()
    tables = {"images": table, "classes": summary, "random_parameters": checks}
    found = Explanation(study.class_names, dataset, explained, tables, _findings(table, checks))
    try:
        return _compare(found, model.ensemble, members[0][0], inspection.pixels)
    except UserError as error:
        return replace(found, findings=[*found.findings, f"not compared with the training images: {error}"])


def _members(ensemble: Ensemble) -> list[tuple[Any, Any]]:
    """Returns backbones with their stacked heads: a frozen one with all heads, or fine-tuned ones with one each."""
    backbone = {name: ensemble.network.used(name) for name in ("params", "batch_stats")}
    if ensemble.config.train.mode == "frozen":
        return [jax.device_put((backbone, unflatten_dict(dict(ensemble.parameters), sep="/")))]
    untrained, members = flatten_dict({**backbone, "params": {"backbone": backbone["params"]}}, sep="/"), []
    for head in range(len(ensemble.heads)):
        trained = {path: values[head] for path, values in ensemble.parameters.items()}
        tree = unflatten_dict(untrained | trained, sep="/")
        variables = {"params": tree["params"]["backbone"], "batch_stats": tree.get("batch_stats", {})}
        members.append((variables, jax.tree.map(lambda leaf: leaf[None], tree["params"]["head"])))
    return members


def _explain_image(
    explainer: Explainer, members: Sequence[tuple[Any, Any]], pixels: np.ndarray, number: int, label: int | None
) -> ExplainedImage:
    """Explains one image, also with random parameters of its own for the first backbone, its heads, or both."""
    key, (_, heads) = jax.random.key(number), members[0]
    random_heads = explainer.random_heads(jax.random.split(key, len(jax.tree.leaves(heads)[0])))
    pairs = [explainer.attribute(backbone, (trained, random_heads), pixels) for backbone, trained in members]
    trained, others = pairs[0][0], {"head": pairs[0][1]}
    if number < CHECKED:
        random = explainer.attribute(explainer.random_variables(key), (heads, random_heads), pixels)
        others |= dict(zip(("backbone", "both"), random, strict=True))
    probabilities = np.mean([of_member.probabilities for of_member, _ in pairs], axis=0)
    label = int(probabilities.argmax()) if label is None else label
    maps, correlations = {}, []
    for method, name in METHODS.items():
        mean = np.mean([getattr(of_member, method)[label] for of_member, _ in pairs], axis=0)
        positive = Image.fromarray(np.where(mean > NEGLIGIBLE * np.abs(mean).max(), mean, 0).astype(np.float32))
        maps[method] = np.asarray(positive.resize(pixels.shape[:2], Image.Resampling.BILINEAR))
        for part, other in others.items():
            two = [getattr(each, method)[label].ravel() for each in (trained, other)]
            correlation = spearmanr(*two).statistic if all(map(np.ptp, two)) else np.nan
            correlations.append({"method": name, "random": part, "rank_correlation": correlation})
    return ExplainedImage("", pixels, label, probabilities, trained.features, maps, correlations)


def _findings(table: "DataFrame", checks: "DataFrame") -> list[str]:
    """Returns what the maps show, and whether they pass the check of Adebayo et al. (2018, arXiv 1810.03292)."""
    known, findings = table[table["cell_area"].notna()], []
    if len(known):
        shares = ", ".join(f"{known[f'{method}_inside'].mean():.0%} of {name}" for method, name in METHODS.items())
        findings.append(f"inside the cell, on average {known['cell_area'].mean():.0%} of the pixels: {shares}")
    if len(known) < len(table):
        count = plural(len(table) - len(known), "image")
        findings.append(f"{count} without a black background: no share inside the cell")
    for method, of_method in checks.groupby("method", sort=False):
        means = of_method.groupby("random", sort=False)["rank_correlation"].mean()
        verdict = "the maps depend on what was trained" if means.max() < UNRELATED else "do not trust these maps"
        listed = ", ".join(f"{mean:.2f} ({name})" for name, mean in means.items())
        findings.append(f"{method}: rank correlation with maps of random parameters {listed}: {verdict}")
    return findings


def _compare(found: Explanation, ensemble: Ensemble, variables: Any, pixels: Sequence[str]) -> Explanation:
    """Adds the nearest training images, a map of the features and the subject probe.

    Features are those of the first network; an image is no neighbor of itself.
    """
    import pandas

    study, config, network = ensemble.study, ensemble.config, ensemble.network
    if config.train.mode != "frozen":  # stored under the hash of the parameters
        sha256 = files.sha256(workdir.trial_folder(study.folder, ensemble.trial) / workdir.PARAMETERS)
        network = replace(network, weights=replace(network.weights, sha256=sha256), load=lambda: variables)
    dataset, inspection = inspect(results.open_records(config), config.data.on_error)
    if inspection.pixels != tuple(study.images["pixels"]):
        raise DataError(f"{config.data.source} has other images than those of the study")
    sides = workdir.read_csv(study.folder, "split.csv", {"path": str, "subset": str})
    trained = study.images["path"].isin(sides["path"][sides["subset"] == "train"]).to_numpy()
    stored = FeatureExtractor(config, dataset, inspection.digests).load(network)
    training, features = study.images[trained].reset_index(drop=True), np.asarray(stored[trained])
    queries = np.stack([image.features for image in found.images])
    same = np.array(pixels)[:, None] == training["pixels"].to_numpy(str)
    nearest, distances = feature_space.nearest(features, queries, same)
    named = training[["path", "label", "subject"]]
    neighbors = named.iloc[nearest.ravel()].add_prefix("neighbor_")
    neighbors.insert(0, "path", np.repeat([image.path for image in found.images], nearest.shape[1]))
    neighbors["distance"] = distances.ravel()
    places = pandas.concat([named, found.tables["images"][["path"]]])  # explained images have no label
    places[["component_1", "component_2"]] = feature_space.project(features, queries)
    fields = np.array([f"{record.subject} {record.field}" if record.field else "" for record in dataset.records])[
        trained
    ]
    photographs = np.where(fields == "", training["path"], fields)
    findings, probes = list(found.findings), []
    for label, rows in training.groupby("label").indices.items():
        probe = feature_space.probe_subjects(features[rows], training["subject"].to_numpy(str)[rows], photographs[rows])
        if probe is None:
            findings.append(
                f"{label}: no two subjects with enough photographs to predict the subject from the features"
            )
            continue
        probes.append({"label": label} | probe._asdict())
        verdict = "identify" if probe.recall > probe.upper else "do not identify"
        findings.append(
            f"{label}: the features {verdict} the subject: mean recall {probe.recall:.2f} over {probe.subjects} "
            f"subjects, chance {probe.chance:.2f} (95 % of random assignments below {probe.upper:.2f})"
        )
    tables = {"neighbors": neighbors, "feature_map": places, "subject_probe": pandas.DataFrame(probes)}
    return replace(found, tables=found.tables | tables, findings=findings, training=dataset)
