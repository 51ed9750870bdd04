"""The table of subjects that a new study needs, for `alljax power`."""

import numpy as np

from alljax.errors import ConfigError, DataError
from alljax.evaluation import power
from alljax.evaluation.intervals import Jackknife, summarize
from alljax.evaluation.metrics import METRICS
from alljax.report.tables import Table, Value, count_value, metric_value, number_value
from alljax.study.results import Study


def power_table(study: Study, metric: str, difference: float, share: float, images: int) -> Table:
    """Returns the subjects needed to measure the best model (`difference`: half width), and to compare it."""
    (best, *others), name, trials = study.ranking.order, metric or study.ranking.metric, study.metrics["trials"]
    predictions, rows, notes = study.predictions(best), [], []
    test = predictions.held_out
    if 1 in Jackknife.of(test).subjects:
        raise DataError(f"{study.folder}: a class has one subject only, whose variance is unknown; it needs two")
    if images < 1:
        raise ConfigError(f"--images={images} is not a number of images; it is at least 1")
    if trials[best][name] is None:
        raise ConfigError("the AUC is undefined, because folds lack a class; use --metric=macro_recall")
    same = [other for other in others if np.array_equal(study.predictions(other).paths, predictions.paths)]
    for other in ("", *same[:1]):
        minus = study.predictions(other).held_out if other else None
        found = summarize(test, study.level, [name], minus)
        goal = power.Goal(difference, study.level, share if other else 0.0)
        parts = power.components(test, predictions.paths, name, minus)
        needed = power.subjects_needed(parts, goal)
        reached = power.simulate(test, name, goal, needed, minus) if needed else None
        model, wanted = Value(best), Value(f"{difference:g} half width")
        if other:
            model, wanted = Value(f"{best} minus {other}"), Value(f"{difference:g} found by {share:.0%}")
        values = metric_value(name, found, "+" if other else ""), wanted, _number(needed), number_value("auc", reached)
        rows.append((model, *values, _number(power.subjects_needed(parts, goal, images))))
        deviations = "; ".join(f"{part.between**0.5:.3f}, {part.within**0.5:.3f}" for part in parts)
        notes.append(f"{model}: {deviations}.")
    unit = f"{study.interval_unit} per class" if len(parts) > 1 else study.interval_unit
    columns = ("model", METRICS[name], "goal", unit, "simulated", f"with {images} images each")
    explained = (
        f"{study.level:.0%} intervals. Images per subject as in this study, in the last column equally many. At least "
        f"{power.FEW_SUBJECTS} effective subjects per class. Simulated: mean half width, or share of significant "
        f"differences, in {power.ROUNDS} studies whose subjects are drawn from this study.",
        "Standard deviation between subjects, and between images of a subject, of one class after the other:",
    )
    return Table("power", f"{study.interval_unit.capitalize()} needed", columns, rows, notes=(*explained, *notes))


def _number(number: int | None) -> Value:
    if number is None:
        return Value("–")
    return Value(f"> {power.LARGEST:,}") if number > power.LARGEST else count_value(number)
