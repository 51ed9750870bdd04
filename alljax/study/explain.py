"""Explains what a finished trial uses in images, and compares them with the training images in feature space."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np
import pandas
from absl import logging
from PIL import Image
from scipy.special import logit
from scipy.stats import spearmanr

from alljax import files, progress
from alljax.data.dataset import Dataset, Record
from alljax.data.inspection import inspect
from alljax.data.perturbation import occlude
from alljax.data.readers import as_dataset
from alljax.errors import ConfigError, DataError, UserError, first_few, plural, unknown_name
from alljax.evaluation import feature_space
from alljax.study import results, workdir
from alljax.study.ensemble import CombinedEnsemble, Ensemble, Member
from alljax.training.attribution import GRID, Explainer, occlusion_map
from alljax.training.feature_extraction import FeatureExtractor, image_reader

METHODS = {"grad_cam": "Grad-CAM", "occlusion": "occlusion"}
"""Maps of an `Attribution`, and the names of the methods."""

BLACK = 10  # largest value of a channel, 0 … 255, in a black background: JPEG files have noise there
NEGLIGIBLE = 0.1  # positive values of a map below this share of its largest absolute value become 0
CHECKED = 5  # images explained with random parameters, too
UNRELATED = 0.5  # mean absolute rank correlation below which maps depend on the parameters


@dataclass(frozen=True)
class ExplainedImage:
    """An image with the maps of one class."""

    path: str
    pixels: np.ndarray  # uint8 (S, S, 3), as the network receives them
    label: int  # the class that is explained
    probabilities: np.ndarray  # (C,)
    maps: dict[str, np.ndarray]  # method to (S, S), interpolated, 0 where nothing supports the class

    @property
    def shares(self) -> dict[str, float]:
        """The share of the pixels inside the cell, which are not black, and of each map; NaN without black corners."""
        cell = self.pixels.max(2) > BLACK
        black = not cell[[0, 0, -1, -1], [0, -1, 0, -1]].any()
        weights = {f"{method}_inside": values for method, values in self.maps.items()}
        shares = {}
        for name, weight in {"cell_area": np.ones(cell.shape), **weights}.items():
            shares[name] = np.average(cell, weights=weight) if black and weight.any() else np.nan
        return shares


@dataclass
class Explanation:
    """What `explain` finds."""

    class_names: list[str]
    dataset: Dataset  # the images that could be read
    images: list[ExplainedImage]
    tables: dict[str, pandas.DataFrame]  # by file name
    findings: list[str]  # one line each
    training: Dataset | None = None  # None where the images of the study cannot be read


def explain(ensemble: Ensemble, images: Any, class_name: str = "") -> Explanation:
    """Explains a class (by default the predicted one) of images, see `as_dataset`, with a trial."""
    study, config = ensemble.study, ensemble.config
    if isinstance(ensemble, CombinedEnsemble):
        names = first_few(ensemble.result["members"])
        raise ConfigError(f"{ensemble.trial} combines trials; explain one of its members with --trial=NAME: {names}")
    if class_name and class_name not in study.classes:
        raise ConfigError(unknown_name("class", class_name, study.classes))
    dataset, inspection = inspect(as_dataset(images, config.data.synthetic, config.data.name_pattern), "skip")
    for note in dataset.notes:
        logging.info(note)
    explainer = _open_explainer(ensemble)
    reader, blocks = image_reader(dataset, ensemble.sources[0]), [*ensemble.predict(dataset)]
    probabilities = np.concatenate([block.probabilities.mean(0) for block in blocks])
    labels = probabilities.argmax(1)
    if class_name:
        labels[:] = study.classes.index(class_name)
    explained, rows = [], []
    with progress.bar("explain", len(dataset.records), "images") as update:
        for number, record in enumerate(dataset.records):
            pixels = reader.take(np.array([number], np.int32), np.array([True]))[0]
            if explainer:
                maps, correlations = _explain_image(explainer, ensemble.members, pixels, number, labels[number])
            else:
                occlusion = _occlude(ensemble, dataset, record)[labels[number]]
                maps, correlations = {"occlusion": _interpolate(occlusion, pixels)}, []
            explained.append(ExplainedImage(record.path, pixels, labels[number], probabilities[number], maps))
            rows += [row | {"path": record.path} for row in correlations]
            update(1)
    classes = np.array(study.classes)
    table = pandas.DataFrame({"path": [image.path for image in explained]})
    table["predicted"], table["explained"] = classes[probabilities.argmax(1)], classes[labels]
    table = table.join(pandas.DataFrame([image.shares for image in explained]))
    table[[f"prob_{name}" for name in classes]] = probabilities
    table["in_training"] = pandas.Series(inspection.pixels).isin(study.training_images["pixels"])
    by_class = table.groupby("explained")[list(explained[0].shares)]
    summary = by_class.mean().assign(images=by_class.size()).reset_index()
    tables = {"images": table, "classes": summary}
    if explainer:
        tables["random_parameters"] = pandas.DataFrame(rows)
    found = Explanation(study.class_names, dataset, explained, tables, _findings(tables))
    try:
        _compare(found, ensemble, np.concatenate([block.features for block in blocks]), inspection.pixels)
    except UserError as error:
        found.findings.append(f"not compared with the training images: {error}")
    return found


def _open_explainer(ensemble: Ensemble) -> Explainer | None:
    """Returns what explains heads on feature maps, or networks; None for other classifiers and for tokens."""
    heads, network = all(one.selection is None and not one.estimators for one in ensemble.members), ensemble.network
    if not heads or not network or len(ensemble.sources) > 1 or "cls" in network.backbone.module.poolings:
        return None
    return Explainer(network, ensemble.config, len(ensemble.study.classes))


def _occlude(ensemble: Ensemble, dataset: Dataset, record: Record) -> np.ndarray:
    """Returns the occlusion maps (C, GRID, GRID) of an image, see `Explainer.attribute`, from predictions only."""
    blocks = ensemble.predict(occlude(dataset, record, GRID))
    probabilities = np.concatenate([block.probabilities for block in blocks], axis=1)
    smallest = np.finfo(np.float32).eps
    whole, *occluded = logit(probabilities.clip(smallest, 1 - smallest)).mean(0)
    return occlusion_map(whole - np.reshape(occluded, (GRID - 1, GRID - 1, -1)))


def _interpolate(values: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """Returns a map at the size of an image, 0 where nothing supports the class."""
    positive = Image.fromarray(np.where(values > NEGLIGIBLE * np.abs(values).max(), values, 0).astype(np.float32))
    return np.asarray(positive.resize(pixels.shape[:2], Image.Resampling.BILINEAR))


def _explain_image(
    explainer: Explainer, members: Sequence[Member], pixels: np.ndarray, number: int, label: int
) -> tuple[dict[str, np.ndarray], list[dict[str, Any]]]:
    """Returns `ExplainedImage.maps` and, of the first images, rank correlations with maps of random parameters."""
    found, others = [explainer.attribute(one.backbone, one.heads, pixels) for one in members], {}
    if number < CHECKED:
        backbone, heads = members[0].backbone, members[0].heads
        keys = jax.random.split(jax.random.key(number), len(jax.tree.leaves(heads)[0]))
        random_backbone, random_heads = explainer.random_parameters(keys)
        others["head"] = explainer.attribute(backbone, random_heads, pixels)
        others["backbone"] = explainer.attribute(random_backbone, heads, pixels)
    maps, correlations = {}, []
    for method, name in METHODS.items():
        mean = np.mean([getattr(of_member, method)[label] for of_member in found], axis=0)
        maps[method] = _interpolate(mean, pixels)
        for part, other in others.items():
            two = [getattr(each, method)[label].ravel() for each in (found[0], other)]
            correlation = spearmanr(*two).statistic if all(map(np.ptp, two)) else np.nan
            correlations.append({"method": name, "random": part, "rank_correlation": correlation})
    return maps, correlations


def _findings(tables: dict[str, pandas.DataFrame]) -> list[str]:
    """Returns what the maps show, and whether they pass the check of Adebayo et al. (2018, arXiv 1810.03292)."""
    table, findings = tables["images"], []
    known = table[table["cell_area"].notna()]
    if len(known):
        inside = {f"{method}_inside": name for method, name in METHODS.items()}
        shares = ", ".join(f"{known[key].mean():.0%} of {name}" for key, name in inside.items() if key in known)
        findings.append(f"inside the cell, on average {known['cell_area'].mean():.0%} of the pixels: {shares}")
    if len(known) < len(table):
        count = plural(len(table) - len(known), "image")
        findings.append(f"{count} without a black background: no share inside the cell")
    if "random_parameters" not in tables:
        return [*findings, "occlusion only: no head on feature maps, so no Grad-CAM and no check of the maps"]
    for method, of_method in tables["random_parameters"].groupby("method", sort=False):
        # Random heads often change the sign of a map only.
        means = of_method["rank_correlation"].abs().groupby(of_method["random"], sort=False).mean()
        verdict = "the maps depend on what was trained" if means.max() < UNRELATED else "do not trust these maps"
        listed = ", ".join(f"{mean:.2f} ({name})" for name, mean in means.items())
        findings.append(f"{method}: absolute rank correlation with maps of random parameters {listed}: {verdict}")
    return findings


def _compare(found: Explanation, ensemble: Ensemble, queries: np.ndarray, pixels: Sequence[str]) -> None:
    """Adds the nearest training images (none is the image itself), a map of the features and the subject probe."""
    study, config, sources, network = ensemble.study, ensemble.config, ensemble.sources, ensemble.network
    if network and not ensemble.frozen:  # stored under the hash of the parameters
        sha256 = files.sha256(workdir.trial_folder(study.folder, ensemble.trial) / workdir.PARAMETERS)
        weights = replace(network.weights, sha256=sha256)
        sources = (replace(network, weights=weights, load=lambda: ensemble.members[0].backbone),)
    dataset, inspection = inspect(results.open_records(config), config.data.on_error)
    if inspection.pixels != tuple(study.images["pixels"]):
        raise DataError(f"{config.data.source} has other images than those of the study")
    stored = FeatureExtractor(config, dataset, inspection.digests).load(*sources)
    trained, training = study.training_images.index.to_numpy(), study.training_images.reset_index(drop=True)
    features = np.asarray(stored[trained])
    same = np.array(pixels)[:, None] == training["pixels"].to_numpy(str)
    nearest, distances = feature_space.nearest(features, queries, same)
    named = training[["path", "label", "subject"]]
    neighbors = named.iloc[nearest.ravel()].add_prefix("neighbor_")
    neighbors.insert(0, "path", np.repeat([image.path for image in found.images], nearest.shape[1]))
    neighbors["distance"] = distances.ravel()
    places = pandas.concat([named, found.tables["images"][["path"]]])  # explained images have no label
    places[["component_1", "component_2"]] = feature_space.project(features, queries)
    records = [dataset.records[row] for row in trained]
    photographs = np.array([f"{one.subject} {one.field}" if one.field else one.path for one in records])
    probes = []
    for label, rows in training.groupby("label").indices.items():
        probe = feature_space.probe_subjects(features[rows], training["subject"].to_numpy(str)[rows], photographs[rows])
        if not probe:
            found.findings.append(f"{label}: no two subjects with enough photographs to predict them from the features")
            continue
        probes.append({"label": label} | probe)
        verdict = "identify" if probe["recall"] > probe["upper"] else "do not identify"
        recall = f"mean recall {probe['recall']:.2f} over {probe['subjects']} subjects"
        chance = f"chance {probe['chance']:.2f} (95 % of random assignments below {probe['upper']:.2f})"
        found.findings.append(f"{label}: the features {verdict} the subject: {recall}, {chance}")
    found.training = dataset
    found.tables |= {"neighbors": neighbors, "feature_map": places, "subject_probe": pandas.DataFrame(probes)}
