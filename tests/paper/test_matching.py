import dataclasses
import math

import numpy as np
import pytest
from evaluation.conftest import point_estimates

from alljax.paper import matching, published
from alljax.study.results import Study

ROW = ("A", "adam", 20)


def test_trials_correspond_to_the_rows_of_the_paper(paper_study: Study) -> None:
    match = matching.match(paper_study)
    assert list(match.networks.values()) == ["EfficientNet-Lite0 up to stem", "EfficientNet-Lite0 up to stage1"]
    assert list(match.trials) == [(*key, epochs) for key in published.KEYS for epochs in published.EPOCHS]
    name = match.trials["B", "rmsprop", 80]
    settings = paper_study.settings(name)
    assert (settings["model.stage"], settings["train.optimizer"], settings["train.epochs"]) == ("stage1", "rmsprop", 80)


def test_random_split_is_used_where_there_are_several(both_study: Study) -> None:
    match = matching.match(both_study)
    assert match.epochs == [10, 20]
    assert len(match.trials) == 4
    assert all(both_study.settings(name)["split.protocol"] == "paper" for name in match.trials.values())


def test_only_the_training_set_of_cnmc_is_the_papers(paper_study: Study) -> None:
    counts = {"all": {"images": published.IMAGES_ALL}, "hem": {"images": published.IMAGES_HEM}}
    for name, by_class, expected in (("cnmc", counts, True), ("folder", counts, False), ("cnmc", {}, False)):
        data = {"name": name, "by_class": by_class}
        study = dataclasses.replace(paper_study, metrics=paper_study.metrics | {"dataset": data})
        assert matching.is_cnmc(study) == expected


def test_numbers_are_means_and_tolerances_the_spread_over_repeats_and_seeds(paper_study: Study) -> None:
    match = matching.match(paper_study)
    tested, runs = paper_study.predictions(match.trials[ROW]), []
    for repeat in ("0", "1"):
        rows = np.array([fold.startswith(f"{repeat} ") for fold in tested.folds])
        runs += [point_estimates(tested.labels[rows], seed[rows])["macro_f1"] for seed in tested.probabilities]
    found = matching.compare(match, "macro_f1", ROW)
    assert found.tolerance == pytest.approx(math.sqrt(2) * np.std(runs, ddof=1))
    assert (found.ours, found.theirs) == (paper_study.metrics["trials"][match.trials[ROW]]["macro_f1"], 0.82)
    history = paper_study.history(match.trials[ROW])
    last = history[history["epoch"] == 20]["train_accuracy"]
    found = matching.compare(match, "training_accuracy", ROW)
    assert (found.ours, found.theirs) == pytest.approx((last.mean(), 0.8785))
    assert found.tolerance == pytest.approx(math.sqrt(2) * last.std(ddof=1))


def test_one_run_has_no_tolerance(both_study: Study) -> None:
    match = matching.match(both_study)
    assert matching.compare(match, "macro_f1", ("A", "rmsprop", 10)).values[2].note == "no tolerance: one run"
