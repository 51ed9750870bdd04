import dataclasses
from collections.abc import Callable

from alljax.paper import matching, published
from alljax.study.results import Study


def test_trials_correspond_to_the_rows_of_the_paper(paper_study: Study) -> None:
    match = matching.match(paper_study)
    assert list(match.networks.values()) == ["EfficientNet-Lite0 up to stem", "EfficientNet-Lite0 up to stage1"]
    assert list(match.trials) == [(*key, epochs) for key in published.KEYS for epochs in published.EPOCHS]
    name = match.trials["B", "rmsprop", 80]
    settings = paper_study.settings(name)
    assert (settings["model.stage"], settings["train.optimizer"], settings["train.epochs"]) == ("stage1", "rmsprop", 80)
    assert (match.protocol, match.stratified, match.unmatched) == ("paper", False, 0)
    text = " ".join(matching.describe(match))
    assert "Network A: EfficientNet-Lite0 up to stem used as VGG16." in text
    assert "The random split is not stratified" in text


def test_random_split_is_used_where_there_are_several(both_study: Study) -> None:
    match = matching.match(both_study)
    assert match.epochs == [10, 20]
    assert len(match.rows) == 2 * len(match.trials) == 8
    assert all(both_study.settings(name)["split.protocol"] == "paper" for name in match.trials.values())
    assert match.missing(("B", "adam", 10)) == "not in this study"


def test_only_the_training_set_of_cnmc_is_the_papers(paper_study: Study, as_cnmc: Callable[[Study], Study]) -> None:
    assert not matching.is_cnmc(paper_study)
    real = as_cnmc(paper_study)
    assert matching.is_cnmc(real)
    for change in ({"name": "folder"}, {"by_class": {"all": {"images": 7_000}}}):
        data = real.metrics["dataset"] | change
        assert not matching.is_cnmc(dataclasses.replace(real, metrics=real.metrics | {"dataset": data}))
