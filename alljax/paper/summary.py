"""The paper's 32 models in a few rows, and what remains with subjects held out: also written as ``summary.md``."""

from collections.abc import Sequence

from alljax.paper import leakage, matching, published
from alljax.paper.published import OPTIMIZERS
from alljax.report.model_tables import BASELINES
from alljax.report.tables import Section, Table, Value, metric_value
from alljax.study.results import Study

HELD_OUT = {"accuracy": "accuracy, subjects held out", "auc": "AUC within folds, subjects held out"}
COLUMNS = ("training accuracy", "test accuracy", "mean F1 over epochs")


def section(study: Study, lines: Sequence[str]) -> Section:
    """Returns the section: versions, weights and data, then `lines` and a row for each network and optimizer."""
    match, partners, trials = matching.match(study), dict(leakage.find_pairs(study)), study.metrics["trials"]
    rows, footer, shown = [], [], HELD_OUT if partners else {}
    for key in published.KEYS:
        if epochs := [row[2] for row in match.trials if row[:2] == key]:
            last = (*key, max(epochs))
            compared = [matching.compare(match, metric, last) for metric in ("training_accuracy", "accuracy")]
            compared.append(matching.compare(match, "macro_f1", *((*key, count) for count in published.EPOCHS)))
            honest = trials.get(partners.get(match.trials[last], ""), {})
            values = [value for comparison in compared for value in comparison.values[:2]]
            name = Value(f"{match.title(key[0])}, {OPTIMIZERS[key[1]]}, {last[2]} epochs")
            rows.append((name, *values, *(metric_value(metric, honest) for metric in shown)))
    for partner in [*partners.values()][:1]:
        for name, rule in study.split_of(partner)["baselines"].items():
            footer.append((Value(BASELINES[name]), *[Value("")] * 6, *(metric_value(metric, rule) for metric in shown)))
    headings = [f"{column}, {whose}" for column in COLUMNS for whose in ("ours", "theirs")]
    notes = [f"In brackets: {study.intervals}. Best model: {study.ranking.best}."]
    title = "Random images, as in the paper; of their test accuracies the range that their tables imply"
    table = Table("summary", title, ("model", *headings, *shown.values()), rows, footer, notes)
    used, data, weights = study.environment, study.metrics["dataset"], [one["weights"] for one in trials.values()]
    names = sorted({f"{of['name'] or of['backbone']} (SHA-256 {of['sha256'][:16]})" for of in weights})
    versions = ", ".join(f"{name} {version}" for name, version in used["packages"].items())
    about = (
        f"alljax {used['alljax']} {used['git_revision']}, {versions}, Python {used['python']}, {used['devices'][0]}. "
        f"Weights: {', '.join(names)}. Data: {data['name']}, {data['images']:,} images of {data['subjects']} subjects "
        f"(SHA-256 {data['sha256'][:16]})."
    )
    return Section("summary", "Summary of the reproduction", [about, *lines], [table])
