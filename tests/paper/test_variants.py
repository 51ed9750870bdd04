from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from ml_collections import ConfigDict

from alljax.paper import matching, published, variants
from alljax.paper.published import Row
from alljax.paper.variants import Variant
from alljax.report.tables import Table
from alljax.study.results import Study, read_study
from alljax.study.run import run_study

ROWS: tuple[Row, ...] = (("A", "adam", 10), ("B", "adam", 10))


@pytest.fixture(scope="module")
def study(toy_config: Callable[..., ConfigDict], tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Four configurations: two splits × two ways of pooling; two networks, 10 and 20 epochs."""
    folder = tmp_path_factory.mktemp("variants") / "study"
    sweep = (("split.stratified", (False, True)), ("model.pool", ("average", "max")),
             ("model.stage", ("stem", "stage1")), ("train.epochs", (10, 20)))  # fmt: skip
    run_study(toy_config(*sweep, split__protocol="paper", study__compare="variants"), folder)
    return read_study(folder)


def conclude(study: Study, *distances: tuple[float, float], networks: tuple[str, str] = ("VGG16", "ResNet50")) -> str:
    """Returns the conclusion for variants of these distances and standard deviations over resamples."""
    match = replace(matching.match(study), networks=dict(zip("AB", networks, strict=True)))
    found = []
    for number, (distance, deviation) in enumerate(distances):
        resampled = np.random.default_rng(number).normal(distance, deviation, 200)
        found.append(Variant(f"variant {number}", ROWS, 8, {variants.BOTH: np.append(distance, resampled)}))
    return variants.conclusion(match, found)


def test_distance_is_the_root_mean_square_difference(study: Study) -> None:
    found = variants.rank(matching.match(study))
    assert len(found) == 4
    variant = next(one for one in found if one.name == "stratified=no, pooling=max")
    squares = []
    for name in study.trials:
        settings = study.settings(name)
        if settings["model.pool"] == "max" and not settings["split.stratified"]:
            row = ("A" if settings["model.stage"] == "stem" else "B", "adam", settings["train.epochs"])
            history = study.history(name)
            ours = [100 * history[history["epoch"] == row[2]]["train_accuracy"].mean()]
            ours += [100 * study.metrics["trials"][name][metric] for metric in published.METRICS.values()]
            metrics = ("training_accuracy", *published.METRICS.values())
            theirs = [100 * published.printed(row, metric) for metric in metrics]
            squares += [(one - other) ** 2 for one, other in zip(ours, theirs, strict=True)]
    assert variant.numbers == len(squares) == 16
    assert variant.distances[variants.BOTH][0] == pytest.approx(np.sqrt(np.mean(squares)))


def test_variants_are_ranked(study: Study) -> None:
    (section,) = variants.sections(study)
    (table,) = section.parts
    assert isinstance(table, Table)
    distances = [row[1].number for row in table.rows]
    assert distances == sorted(distances)
    assert sum(row[4].number for row in table.rows) == pytest.approx(1)
    assert "EfficientNet-Lite0 up to stem used as VGG16" in table.notes[0]
    assert section.paragraphs[0].startswith("Nothing can be concluded about the paper's configuration: these are 48")


def test_missing_trials_leave_a_ranking(study: Study, without: Callable[..., Study]) -> None:
    (section,) = variants.sections(without(study, study.trials[0]))
    assert sorted(row[5].number for row in section.parts[0].rows) == [12, 16, 16, 16]


def test_conclusion_names_the_nearest(study: Study, as_cnmc: Callable[[Study], Study]) -> None:
    text = conclude(as_cnmc(study), (1.0, 0.1), (5.0, 0.1), (6.0, 0.1))
    assert text.startswith("Of 3 configurations variant 0 is the nearest to Tables 1 to 6: 1.00 [")
    assert "Next is variant 1 with 5.00; not significantly further away (resampling subjects): none." in text
    assert "so it is a possible configuration" in text


def test_equal_configurations_are_not_distinguished(study: Study, as_cnmc: Callable[[Study], Study]) -> None:
    text = conclude(as_cnmc(study), (9.0, 1.0), (9.1, 1.0), (30.0, 1.0))
    assert "not significantly further away (resampling subjects): variant 1. " in text
    assert "none of these is shown to be the paper's" in text


def test_nothing_is_concluded_from_another_study(study: Study, as_cnmc: Callable[[Study], Study]) -> None:
    real, distances = as_cnmc(study), ((1.0, 0.1), (2.0, 0.1))
    text = conclude(real, *distances, networks=("ResNet50", "VGG16"))
    assert "the networks are ResNet50 and VGG16, not VGG16 and ResNet50" in text
    assert "the study has 1 configuration" in conclude(real, distances[0])
    assert conclude(real, *distances, networks=("VGG16", "ResNet50 (Keras)")).startswith("Of 2 configurations")
