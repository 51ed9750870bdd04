"""Opens the inputs of a study and reports everything that is wrong with them, before an image is read."""

from collections.abc import Sequence

from ml_collections import ConfigDict

from alljax.data import splits
from alljax.data.dataset import Dataset
from alljax.data.readers import open_dataset
from alljax.errors import Problems
from alljax.study import sweep
from alljax.study.sweep import Trial
from alljax.training import metric_writers, network
from alljax.training.fine_tuning import group_parameters
from alljax.training.network import Network
from alljax.training.sharding import make_mesh
from alljax.weights import store


def open_inputs(
    config: ConfigDict, trials: Sequence[Trial], problems: Problems | None = None, download: bool = True
) -> tuple[Dataset, list[Network]]:
    """Returns the images of a study, not yet inspected, and the network of each trial.

    Names of backbones and stages, loggers, source, weights and the number of subjects per class are checked before
    anything is compiled; weights are downloaded if nothing else is wrong.

    Args:
        config: of the study.
        trials: its trials.
        problems: what is known to be wrong; reported together with what is found here.
        download: whether to download weights that are absent; otherwise they are a problem.

    Raises:
        UserError: all problems together, one line each.
    """
    problems, dataset = problems or Problems(), None
    wanted = {_weights(trial.config): trial.config for trial in trials}
    for trial in trials:
        with problems.collect():
            network.check_names(trial.config)
        with problems.collect():
            if trial.config.train.mode == "finetune":
                metric_writers.check(trial.config.train.loggers)
    with problems.collect():
        dataset = open_dataset(config.data, sweep.subsets(trials))
    if dataset:
        # Images are not compared here: a study has at most the subjects that the names give.
        subjects = splits.merge_subjects(dataset.records, (), dataset.known_subjects)
        for split in {trial.split: trial.config for trial in trials}.values():
            with problems.collect():
                splits.make_splits(dataset, subjects, (), split)
    download = download and not problems.errors
    for arguments in wanted:
        with problems.collect():
            store.find(*arguments, download)
    problems.report()
    assert dataset
    networks = network.open_networks(trial.config for trial in trials)
    for trial, opened in zip(trials, networks, strict=True):
        if trial.config.train.mode == "finetune":
            with problems.collect():
                make_mesh(trial.config)
                group_parameters(trial.config, opened, num_classes=2)
    problems.report()
    return dataset, networks


def _weights(config: ConfigDict) -> tuple[str, str, str]:
    return config.weights.path, config.weights.name, config.model.backbone
