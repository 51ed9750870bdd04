"""Studies in Python: what `alljax study`, `predict` and `explain` do, for scripts and notebooks; imports no JAX."""

import io
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas
from ml_collections import ConfigDict

from alljax import config as configs
from alljax import interrupts, paper, progress
from alljax.errors import Problems
from alljax.evaluation.metrics import METRICS
from alljax.report import model_tables, report, tables
from alljax.study import results, workdir
from alljax.study.results import Study

if TYPE_CHECKING:
    from alljax.report.explanation import DrawnExplanation
    from alljax.study.ensemble import Ensemble


@dataclass(frozen=True, eq=False, repr=False)
class TrainedStudy:
    """A finished study: its results, and what one of its trials finds in new images; prints as the table of results.

    Images are uint8 arrays (N, H, W, 3), a list of (H, W, 3) of any sizes, paths of files, folders or zips, or a
    `Dataset`. A trial is an ensemble of the heads (or networks) of all folds and seeds.
    """

    study: Study
    trial: str
    """The name of the trial that `predict`, `model`, `explain` and `predictions` use."""
    weights: str = ""
    """File or folder of the weights of the backbone, if they were moved."""

    @cached_property
    def ensemble(self) -> "Ensemble":
        """The classifiers of the trial with their parameters, read at first use."""
        from alljax.study.ensemble import open_ensemble  # imports JAX

        return open_ensemble(self.study.folder, self.trial, self.weights)

    def predict(self, images: Any) -> pandas.DataFrame:
        """Returns what ``alljax predict`` writes, a row per image: class, probabilities, distance, warnings.

        An image that cannot be read has a warning instead of numbers.
        """
        from alljax.study import predict

        return predict.predict([self.ensemble], images)

    def model(self, images: Any) -> np.ndarray:
        """Returns the calibrated probabilities of images, float32 (N, C), in the order of `classes`.

        Resizing, preprocessing, backbone and heads are those of the trial. The probabilities are not calibrated if the
        study has no temperature: with one fold and without inner folds. `DataError`: an image cannot be read.
        """
        from alljax.study import predict

        return predict.classify(self.ensemble, images)

    def explain(self, images: Any, class_name: str = "") -> "DrawnExplanation":
        """Returns what the trial uses in images for a class, by default the predicted one, as ``alljax explain``.

        In a notebook it shows a figure of each image with its Grad-CAM and occlusion maps; `figure` returns it, `save`
        writes all files. Raises `ConfigError` for a combined trial, which has no network of its own.
        """
        from alljax.report.explanation import DrawnExplanation
        from alljax.study import explain

        return DrawnExplanation(**vars(explain.explain(self.ensemble, images, class_name)))

    @property
    def classes(self) -> list[str]:
        """The names of the classes in label order."""
        return self.study.classes

    @property
    def predictions(self) -> pandas.DataFrame:
        """The held-out predictions of the trial, a row per tested image, fold and seed."""
        texts = dict.fromkeys(("path", "subject", "label", "predicted", "subset"), str)
        numbers = dict.fromkeys([f"prob_{name}" for name in self.classes], float)
        types = texts | numbers | dict.fromkeys(("repeat", "fold", "seed"), int)
        return workdir.read_csv(workdir.trial_folder(self.study.folder, self.trial), "predictions.csv", types)

    @property
    def trials(self) -> pandas.DataFrame:
        """The trials, best first, then the baselines, with each metric and the ends of its interval (``auc_low``)."""
        study, found = self.study, list[dict[str, Any]]()
        tested = [(name, study.metrics["trials"][name]) for name in study.ranking.order]
        for split, content in study.metrics["splits"].items():
            tested += [(name, result | {"split": split}) for name, result in content["baselines"].items()]
        for name, result in tested:
            found.append({"name": name, "split": result["split"], "baseline": name not in study.metrics["trials"]})
            for metric in METRICS:
                low, high = result["intervals"].get(metric) or (None, None)
                found[-1] |= {metric: result[metric], f"{metric}_low": low, f"{metric}_high": high}
        return pandas.DataFrame(found)

    def __repr__(self) -> str:
        tables.print_table(model_tables.results_table(self.study), 4, text := io.StringIO())
        return text.getvalue()

    def _repr_html_(self) -> str:
        return tables.to_html(model_tables.results_table(self.study))


def run_study(
    config: ConfigDict | str | Path,
    workdir: str | Path,
    *,
    shard: tuple[int, int] = (0, 1),
    force: bool = False,
    problems: Problems | None = None,
) -> TrainedStudy | None:
    """Trains and evaluates every trial that is not finished, and writes the report, as ``alljax study``.

    Args:
        config: A config (see `load_config`), or what ``--config=`` accepts, such as ``"quickstart"``.
        workdir: The folder of the study. After an interruption the same call continues there.
        shard: (i, n): only every nth training, from number i.
        force: Resume unfinished trials although settings have changed.
        problems: Those found in the config, to be raised together with those of the inputs.

    Returns:
        The study with its best trial. None: trials of other shards are missing, or this process is not the primary one.

    Raises:
        ConfigError: A wrong setting, or a trial that failed; the report has the others.
        DataError, WeightsError, WorkdirError: Images or weights are missing or damaged; another study is in the folder.

    >>> config = alljax.load_config(data__synthetic__images=24, split__folds=2, train__epochs=1)
    >>> study = alljax.run_study(config, "runs/small")
    >>> study.model(np.zeros((2, 100, 80, 3), np.uint8)).shape
    (2, 2)
    """
    progress.show_messages()
    folder = Path(workdir).expanduser()
    if not isinstance(config, ConfigDict):
        config = configs.load(str(config))
    elif problems is None:
        config = configs.check(config)

    def finish(study: Study) -> None:
        report.write_report(study.folder, paper.sections, lambda: results.open_records(config))

    new = interrupts.several_processes or (problems and problems.errors)  # several would have to agree
    study = None if new else results.find_unchanged(config, folder)
    if study:
        finish(study)
    else:
        interrupts.check(collective=True)  # the next import takes seconds
        from alljax.study import run

        study = run.run_study(config, folder, shard, force, finish, problems)
    return TrainedStudy(study, study.find()) if study else None


def load_study(workdir: str | Path, trial: str = "", weights: str | Path = "") -> TrainedStudy:
    """Returns a finished study from its folder.

    Args:
        workdir: The folder of the study.
        trial: The trial that predicts and explains; by default the best one.
        weights: File or folder of the weights of its backbone, if they were moved since the study.

    Raises:
        WorkdirError: No study of this version of alljax, a damaged file, or a trial that it does not have.

    >>> config = alljax.load_config(data__synthetic__images=24, split__folds=2, train__epochs=1)
    >>> study = alljax.run_study(config, "runs/small")
    >>> [*alljax.load_study("runs/small").predictions]
    ['path', 'subject', 'label', 'predicted', 'prob_hem', 'prob_all', 'subset', 'repeat', 'fold', 'seed']
    """
    progress.show_messages()
    study = results.read_study(Path(workdir).expanduser())
    return TrainedStudy(study, study.find(trial), str(weights))
