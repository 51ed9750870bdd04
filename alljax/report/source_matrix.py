"""The report's section on several sources: what a model trained on some of them achieves on another."""

from itertools import permutations

import numpy as np

from alljax.evaluation.intervals import summarize
from alljax.evaluation.metrics import METRICS
from alljax.report.tables import Section, Table, Value, metric_value
from alljax.study.results import Study

OTHERS = "all other sources"


def sections(study: Study) -> list[Section]:
    """Returns the section, or nothing where no trial has a protocol for several sources."""
    sources, metric, rows = sorted(name for name, *_ in study.config["data.sources"]), study.ranking.metric, []
    for name in study.ranking.order:
        protocol, predictions = study.settings(name)["split.protocol"], study.predictions(name)
        if protocol == "leave_one_source_out":
            trained = {OTHERS: np.ones(len(predictions.paths), bool)}
        elif protocol == "source_pairs":
            training = [one for one, _ in permutations(sources, 2)]  # of each fold, see `protocols.source_pairs`
            of_image = np.array([training[int(fold.split()[1])] for fold in predictions.folds])
            trained = {source: of_image == source for source in sources}
        else:
            continue
        tested = np.array([path.partition("/")[0] for path in predictions.paths])
        for source, members in trained.items():
            parts = [predictions.held_out.take(members & (tested == other)) for other in sources]
            found = [summarize(part, study.level, [metric]) if len(part.labels) else {} for part in parts]
            cells = [metric_value(metric, each) if each.get(metric) is not None else Value("–") for each in found]
            rows.append((Value(name), Value(source), *cells))
    if not rows:
        return []
    columns = "model", "trained on", *(f"tested on {source}" for source in sources)
    notes = (f"{METRICS[metric]}. In brackets: {study.intervals} of the tested source.",)
    table = Table("sources", f"{METRICS[metric]} by training and test source", columns, rows, notes=notes)
    return [Section("sources", "Sources", (), [table])]
