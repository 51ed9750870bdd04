"""What the trials of a study share: images, subjects, folds and networks."""

import hashlib
import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging
from ml_collections import ConfigDict

from alljax.data import splits
from alljax.data.dataset import Dataset, Record, check, merge_subjects
from alljax.data.inspection import Inspection, inspect
from alljax.data.loader import ImageReader, cache_images
from alljax.data.protocols import LEAKY
from alljax.data.readers import open_labeled
from alljax.data.splits import Splits, divide
from alljax.errors import ConfigError, MissingWeightsError, Problems, first_few, plural
from alljax.evaluation import baselines, metrics
from alljax.evaluation.intervals import HeldOut, describe
from alljax.models.backbones import get_backbone
from alljax.models.preprocessing import Preprocessing
from alljax.study import inner_folds, results, sweep
from alljax.study.exports import with_weight_file
from alljax.study.inner_folds import Inner
from alljax.study.sweep import Trial
from alljax.training import metric_writers
from alljax.training.feature_extraction import FeatureExtractor, Source, image_reader, open_sources
from alljax.training.fine_tuning import group_parameters
from alljax.training.network import Network, check_names, open_networks
from alljax.training.sharding import make_mesh
from alljax.weights import store


@dataclass(frozen=True)
class Division:
    """The folds of one split setting, and what is known of them without a model."""

    splits: Splits
    baselines: dict[str, HeldOut]  # the predictions of each, see `baselines.fit`
    description: dict[str, Any]  # protocol and leaks, for metrics.json


@dataclass(frozen=True)
class Experiment:
    """Images, subjects, folds and networks of a study."""

    config: ConfigDict
    dataset: Dataset
    inspection: Inspection
    subjects: tuple[str, ...]  # of each record, after merging aliases
    networks: dict[str, Network]  # the backbone of each trial that has one, with its weights, by the trial's name
    sources: dict[str, tuple[Source, ...]]  # of the features of each frozen trial, by the trial's name
    divisions: dict[str, Division]  # by `Trial.split`
    inner_folds: dict[str, Inner]  # by `Trial.split`, of frozen trials
    extractor: FeatureExtractor = field(repr=False)
    skipped: dict[str, str]  # trials without their weights, which have no network: the reason by name
    _images: dict[Preprocessing, ImageReader] = field(default_factory=dict, repr=False)

    @property
    def num_classes(self) -> int:
        """The number of classes."""
        return len(self.dataset.classes)

    @property
    def interval_unit(self) -> str:
        """What is resampled for intervals: ``subjects``, or ``images`` where no subject is known."""
        return "subjects" if any(record.subject for record in self.dataset.records) else "images"

    def folds(self, trial: Trial) -> tuple[splits.Fold, ...]:
        """Returns the folds of a trial."""
        return self.divisions[trial.split].splits.folds

    def images(self, trial: Trial) -> ImageReader:
        """Returns the images at the size of a trial's network, decoded and in memory if they fit."""
        network = self.networks[trial.name]
        if network.preprocessing not in self._images:
            reader = image_reader(self.dataset, network)
            self._images[network.preprocessing] = cache_images(self.config.data.cache, reader)
        return self._images[network.preprocessing]

    def features(self, trial: Trial) -> Any:
        """Returns the features of a frozen trial, see `FeatureExtractor`; those that NumPy uses stay in a file."""
        sources, config = self.sources[trial.name], trial.config
        if config.features.select or not sweep.has_epochs(config):
            return self.extractor.load(*sources)
        return self.extractor.load_for_training(config, *sources)

    def fingerprints(self) -> dict[str, str]:
        """Returns the SHA-256 of the images with their labels, of the folds and of the weights, by name."""
        found = {"images": self.description["dataset"]["sha256"]}
        for name, split in self.description["splits"].items():
            found[f"split {name}"] = split["protocol"]["fingerprint"]
        return found | {f"weights of {name}": network.weights.sha256 for name, network in self.networks.items()}

    @cached_property
    def description(self) -> dict[str, Any]:
        """The parts of metrics.json that do not depend on a model: data set, protocols, leaks, baselines."""
        divisions, level, external = {}, self.config.evaluation.level, self.config.evaluation.metrics
        for name, division in self.divisions.items():
            found = {rule: describe(test, level, external) for rule, test in division.baselines.items()}
            divisions[name] = division.description | {"baselines": found}
        dataset, records, listed = self.dataset, self.dataset.records, hashlib.sha256()
        for record, digest in zip(records, self.inspection.digests, strict=True):
            listed.update(f"{record.path}\t{dataset.classes[record.label]}\t{digest}\n".encode())
        labels = range(self.num_classes)
        names = [{record.subject for record in records if record.label == label} - {""} for label in labels]
        about = {
            "name": dataset.name,
            "source": ", ".join(name for name, *_ in self.config.data.sources) or self.config.data.source,
            "classes": list(dataset.classes),
            "class_names": list(dataset.class_names or dataset.classes),
            "images": len(records),
            "subject_names": len(set().union(*names)),
            "subjects": len(set(self.subjects)) if self.interval_unit == "subjects" else 0,
            "by_class": {
                name: {"images": int(np.sum(dataset.labels == label)), "subjects": len(names[label])}
                for label, name in enumerate(dataset.classes)
            },
            "notes": list(dataset.notes),
            "pixels": {problem: len(paths) for problem, paths in self.inspection.pixel_problems.items()},
            "file_properties": self.inspection.file_properties,
            "image_size": list(self.inspection.sizes.most_common(1)[0][0]),
            "sha256": listed.hexdigest(),
        }
        return {"dataset": about, "splits": divisions} | next(iter(divisions.values()))


def open_experiment(
    config: ConfigDict, trials: Sequence[Trial], problems: Problems | None = None, download: bool = True
) -> Experiment:
    """Opens images and networks of a study (see `check_inputs`) and makes the folds; writes nothing."""
    dataset, skipped = check_inputs(config, trials, problems or Problems(), download)
    present = [trial for trial in trials if trial.name not in skipped]
    named = {trial.name: with_weight_file(trial.config) for trial in present if sweep.has_backbone(trial.config)}
    networks = dict(zip(named, open_networks(named.values()), strict=True))
    for trial in present:
        if trial.config.train.mode == "finetune":
            make_mesh(trial.config)
            group_parameters(trial.config, networks[trial.name], num_classes=2)
    dataset, inspection = open_images(config, dataset)
    subjects = merge_subjects(dataset, inspection.pixels)
    frozen = [trial for trial in trials if trial.config.train.mode == "frozen"]
    every, divided = ({trial.split: trial.config for trial in kind} for kind in (trials, frozen))
    divisions = {split: _divide(dataset, inspection, of_split) for split, of_split in every.items()}
    inner: dict[str, Inner] = {}
    for split, of_split in divided.items():
        found = divisions[split].splits
        inner[split] = inner_folds.divide(found.folds, dataset.labels, found.subjects, of_split)
    notes = [inner_folds.note(of_split, config) for of_split in inner.values()]
    for trial in frozen:
        if trial.config.classifier.name == "svm" and not all(inner[trial.split]):
            needs = "evaluation.inner_folds above 1 and two training subjects per class"
            raise ConfigError(f"{trial.name}: svm has no probabilities without inner folds, which need {needs}")
    names = [dataset.name, Path(config.data.source).name]
    names += [f"{name} {Path(path).name}" for name, path, *_ in config.data.sources]
    notes += [network.weights.source.seen(*names) for network in networks.values() if network.weights.source]
    dataset = replace(dataset, notes=(*dataset.notes, *filter(None, dict.fromkeys(notes))))
    for note in filter(None, dict.fromkeys(notes)):
        logging.info(note)
    used = [trial for trial in frozen if trial.name not in skipped]
    sources = {trial.name: open_sources(trial.config, networks.get(trial.name)) for trial in used}
    extractor = FeatureExtractor(config, dataset, inspection.digests, itertools.chain.from_iterable(sources.values()))
    subjects = next(iter(divisions.values())).splits.subjects  # of all divisions
    return Experiment(config, dataset, inspection, subjects, networks, sources, divisions, inner, extractor, skipped)


def check_inputs(
    config: ConfigDict, trials: Sequence[Trial], problems: Problems, download: bool
) -> tuple[Dataset, dict[str, str]]:
    """Returns the source and the skipped trials, the reason by name; raises all `problems` together.

    Nothing is compiled and no image is read. Weights are downloaded with `download`, if there is no other problem.
    """
    for trial in trials:
        with problems.collect():
            check_names(trial.config)
        with problems.collect():
            metric_writers.check(trial.config.train.loggers if trial.config.train.mode == "finetune" else ())
    with problems.collect():
        dataset = open_labeled(config.data, sweep.subsets(trials))
        columns = {*dataset.columns} - {*results.IMAGES, "red", "green", "blue"}
        if unknown := {*config.evaluation.subgroups} - columns:
            has = f"its other columns than path, label, … are {first_few(sorted(columns)) or 'absent'}"
            problem = f"evaluation.subgroups: {config.data.source} has no column {min(unknown)!r}; {has}"
            problems.errors.append(ConfigError(problem))
        for name in config.evaluation.metrics:
            with problems.collect():
                metrics.check_external(name, dataset.labels, len(dataset.classes))
        # Equal images, which may merge subjects, are not known yet: a study has at most these subjects.
        subjects = merge_subjects(dataset)
        for split in {trial.split: trial.config for trial in trials}.values():
            with problems.collect():
                splits.make_folds(dataset, subjects, (), split)
    skip, skipped = config.study.missing_weights == "skip", dict[str, str]()
    download = download and not skip and not problems.errors
    for trial in (trial for trial in trials if sweep.has_backbone(trial.config)):
        with problems.collect():
            try:
                weights, backbone = with_weight_file(trial.config).weights, get_backbone(trial.config.model.backbone)
                store.find(weights.path, weights.name, backbone.name, download)
            except MissingWeightsError as error:
                if skip and str(error) not in skipped.values():  # once for all trials with these weights
                    logging.info(f"{backbone.name} is skipped: {error}")
                skipped[trial.name] = str(error)
                if not skip or len(skipped) == len(trials):
                    raise
    problems.report()
    return dataset, skipped


def _divide(dataset: Dataset, inspection: Inspection, config: ConfigDict) -> Division:
    """Makes the folds of a split setting; logs leaks."""
    found = divide(dataset, inspection, config)
    folds = found.folds
    if found.leak:
        logging.info(found.leak)
    if config.split.protocol == "official_folds":
        official = [Counter(dataset.records[row].fold for row in fold.test) for fold in folds]
        moved = sum(of_fold.total() - max(of_fold.values()) for of_fold in official)
        logging.info(f"{plural(moved, 'image')} moved to the official fold with most images of the same subject")
    if selects := sweep.selects_on_test(config):
        logging.info("features.select_scope=all leaks: the selection of features is fitted to the test images, too")
    areas = inspection.areas if inspection.black else None
    rules = baselines.fit(dataset.labels, areas, inspection.colors, found.subjects, folds, len(dataset.classes))
    protocol = {
        "name": config.split.protocol,
        "folds": max(fold.fold for fold in folds) + 1,
        "repeats": config.split.repeats,
        "seed": config.seed,
        "fingerprint": splits.fingerprint(folds, dataset.records),
        "leaky": config.split.protocol in LEAKY or selects,
        "selection_leaks": selects,
        "training_images": [len(fold.train) for fold in folds],
        "test_images": [len(fold.test) for fold in folds],
    }
    return Division(found, rules, {"protocol": protocol, "leaks": found.leaks})


def open_images(config: ConfigDict, dataset: Dataset | None = None) -> tuple[Dataset, Inspection]:
    """Inspects every image of a data set, by default ``data.subset`` of the source, once; logs all remarks."""
    dataset, inspection = inspect(dataset or open_labeled(config.data), config.data.on_error)
    check(dataset, config.data.source)
    first: dict[str, Record] = {}
    pairs = [(first.setdefault(of, one), one) for of, one in zip(inspection.pixels, dataset.records, strict=True)]
    if named := [f"{one.path} and {other.path}" for one, other in pairs if one.label != other.label]:
        note = f"{plural(len(named), 'image')} under two classes, one label is wrong: {first_few(named)}"
        dataset = replace(dataset, notes=(*dataset.notes, note))
    for line in (dataset.counts, *dataset.notes):
        logging.info(line)
    return dataset, inspection
