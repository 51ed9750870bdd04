"""How the models of a study were tested, and what a reader must know before believing the numbers."""

from collections.abc import Iterator, Mapping
from typing import Any

from alljax.study.results import Predictions, Study
from alljax.study.workdir import RERUN

COUNTS = ("training_images", "test_images")

FEW_PEOPLE = 10
"""With fewer people in a class percentile intervals come out visibly too narrow."""

NAMED = 8
"""Cells that a warning names; of more it says how many."""


def splits(study: Study) -> dict[str, Mapping[str, Any]]:
    """Returns ``protocol``, ``leaks`` and ``baselines`` of each split setting, by its label; one has the label ""."""
    found = study.metrics.get("splits") or {}
    return dict(found) if len(found) > 1 else {"": next(iter(found.values()), study.metrics)}


def protocols(study: Study) -> list[tuple[str, str]]:
    """Returns how models were tested: the label of each split setting, and one or two sentences."""
    return [
        (label, f"{_protocol(study, label, split['protocol'])} {_counts(split['protocol'])}")
        for label, split in splits(study).items()
    ]


def _counts(how: Mapping[str, Any]) -> str:
    """Says of how many cells a model learned and was tested on; of folds that differ, the fewest and the most."""
    learned, tested = (" to ".join(f"{count:,}" for count in sorted({min(how[key]), max(how[key])})) for key in COUNTS)
    who = "A model" if len(how["test_images"]) == 1 else "For each part a model"
    return f"{who} learned from {learned} cells and was tested on {tested}."


def _protocol(study: Study, label: str, how: Mapping[str, Any]) -> str:
    trials = study.metrics["trials"]
    name = next(
        (name for name, trial in trials.items() if not label or trial.get("split") == label), next(iter(trials))
    )
    settings = {**study.config, **study.settings(name)}
    again = f" This was done {how['repeats']} times with new draws." if how["repeats"] > 1 else ""
    share = f"{settings['split.test_fraction']:.0%}"
    if how["name"] == "paper":
        return f"A random {share} of the cells was held out, whoever they came from, as the paper did.{again}"
    if how["name"] == "official_folds_by_name":
        return f"The cells were held out in the {how['folds']} published folds, where one person may stand in several."
    tested = f"in {how['folds']} parts, each"
    if how["name"] == "subject_holdout":
        tested = f"in one part, about {share} of them,"
    elif how["name"] == "prelim":
        tested = f"in one part, “{settings['split.test_subset']}”,"
    elif how["name"] == "leave_one_subject_out":
        tested = f"in {how['folds']} parts, one a person, each"
    elif how["name"] == "official_folds":
        tested = f"in the {how['folds']} published folds, each"
    kept = (
        "with people of its own: every held-out cell was tested by a model that had seen no cell of the same person."
        if trials[name]["interval_unit"] == "subjects"
        else "with cells of its own; who they came from is not known."
    )
    return f"The cells were held out {tested} {kept}{again}"


def warnings(study: Study, best: str, predictions: Predictions) -> list[str]:
    """Returns what a reader must know before believing the numbers.

    Args:
        study: the study.
        best: name of its best cell.
        predictions: of that cell.
    """
    lines = [*_unfinished(study), *_leaks(study)]
    if study.metrics["trials"][best]["interval_unit"] == "images":
        lines.append(
            "Who the cells came from is not known. Intervals are over cells, and too narrow if people gave several; "
            "a person may stand on both sides of the split."
        )
    else:
        lines += _few_people(study, predictions)
    return lines + list(study.metrics["dataset"].get("notes", []))


def failures(study: Study) -> dict[str, str]:
    """Returns the cells that failed, and what stopped them."""
    return dict(study.metrics.get("failed") or {})


def _unfinished(study: Study) -> Iterator[str]:
    done, failed = len(study.metrics["trials"]), list(failures(study))
    missing = [name for name in study.metrics.get("missing") or [] if name not in failed]
    whole = done + len(missing) + len(failed)
    if missing:
        yield (
            f"This study is not finished: {len(missing)} of {whole} models {'is' if len(missing) == 1 else 'are'} not "
            f"there yet: {_named(missing)}. To train what is missing, {RERUN}."
        )
    if failed:
        yield (
            f"{len(failed)} of {whole} models failed: {_named(failed)}. What stopped "
            f"{'it' if len(failed) == 1 else 'each'} is said below the table of results."
        )


def _named(names: list[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def _leaks(study: Study) -> Iterator[str]:
    found = splits(study)
    for label, split in found.items():
        leaks, where = split["leaks"], f" in “{label}”" if label else ""
        for key, kin in (
            ("subject", "a cell of the same person"),
            ("field", "a cell of the same photograph"),
            ("duplicate", "the same image"),
        ):
            if leaks.get(key):
                yield (
                    f"Leak{where}: {leaks[key]:,} of {leaks.get('test_images', 0):,} held-out cells have {kin} among "
                    "the training cells."
                )
    if any(split["protocol"].get("leaky") for split in found.values()):
        yield "Such a split rewards recognizing people; expect worse on people the model has never seen."
    if study.ranking.leaky:
        yield "Models tested so are marked as leaky and come after all others, however high their numbers."


def _few_people(study: Study, predictions: Predictions) -> Iterator[str]:
    for label, name in enumerate(study.classes):
        count = len(set(predictions.subjects[predictions.labels == label].tolist()))
        if count < FEW_PEOPLE:
            people = "person" if count == 1 else "people"
            yield f"Only {count} {people} with “{name}” cells were tested: take the intervals as too narrow."
