"""The study beside the published tables: ours, theirs, the difference, and whether it lies within the noise."""

from collections.abc import Sequence

from alljax.paper import claims, leakage, matching, noise, optimizer_findings, paper_tables, published, training_curves
from alljax.paper.matching import Reproduction
from alljax.report.tables import Figure, Section, Table, Value, format_interval, format_value
from alljax.study.results import Study

MEANINGLESS = (
    "These are not the 10,661 cells of C-NMC 2019: that a number of ours agrees or disagrees with a published one "
    "means nothing. What follows shows what the comparison will look like."
)


def sections(study: Study) -> list[Section]:
    """Returns the parts of the report that set a study beside the paper (``study.compare=paper``).

    Cells that are not there yet leave entries that say so.

    Args:
        study: the study, from `finished.read_study`.

    Raises:
        WorkdirError: a history or predictions that are missing, cut off or not the study's.
    """
    found = matching.match(study)
    caveat = () if matching.real(study) else (MEANINGLESS,)
    training = [paper_tables.training_table(found, scenario) for scenario in found.scenarios]
    tested = [
        paper_tables.tested_table(found, scenario, one) for scenario in found.scenarios for one in published.OPTIMIZERS
    ]
    gaps = optimizer_findings.table(found)
    first = (paper_tables.baselines(found), *training, *tested, *([gaps] if gaps else []), paper_tables.table_7(found))
    lines = (*_who_plays_whom(found), *_summary(found, training, tested))
    parts = [Section("paper", "Against the paper", (*caveat, *lines), first)]
    if any(map(found.result, found.names)):
        text = "Figures 7 to 9 with our numbers, then what the paper leaves out."
        more: list[Table | Figure] = [*training_curves.all_pictures(found)]
        more += [paper_tables.accuracies(found), paper_tables.confusion_table(found)]
        parts.append(Section("paper-figures", "The paper's figures", (text,), tuple(more)))
    parts.append(_inconsistencies())
    return [*parts, *leakage.sections(study)]


def _who_plays_whom(found: Reproduction) -> tuple[str, ...]:
    lines = [f"Published: {published.CITATION}."]
    lines += [
        f"{one.network} stands in for {one.plays} (scenario {one.letter})." for one in found.scenarios if one.stands_in
    ]
    lost = [f"{plays} (scenario {letter})" for letter, plays in published.SCENARIOS.items()][len(found.scenarios) :]
    if lost:
        lines.append(f"This study has no network for {' and '.join(lost)}.")
    if other := [f"{own} for {budget}" for budget, own in found.budgets.items() if own != budget]:
        lines.append(f"None of its budgets is the paper's; they stand in by their order: {', '.join(other)} epochs.")
    if found.protocol != "paper":
        lines.append(f"The cells were split by {found.protocol}, not at random over cells as the paper did.")
    if found.passed_over:
        lines.append(f"{found.passed_over} cells of this study have no place of their own in the paper's tables.")
    if missing := [found.names[place] for place in found.names if not found.result(place)]:
        lines.append(f"{len(missing)} of {len(found.names)} cells are not there: {', '.join(missing[:4])}"
                     f"{', …' if len(missing) > 4 else ''}.")  # fmt: skip
    return tuple(lines)


def _summary(found: Reproduction, training: Sequence[Table], tested: Sequence[Table]) -> tuple[str, ...]:
    """Returns how much agrees, and what the size of the cell alone does."""
    lines = []
    counts = [noise.tally([entry for table in tables for row in table.rows for entry in row])
              for tables in (training, tested)]  # fmt: skip
    if sum(total for _, total in counts):
        (trained, of_trained), (held, of_held) = counts
        lines.append(
            f"Within the noise of ours lie {trained} of {of_trained} published training accuracies and {held} of "
            f"{of_held} published recalls, precisions and F1."
        )
    rule = found.baselines().get("size_threshold")
    if rule and matching.real(found.study):
        ranges = []
        for letter, name in published.SCENARIOS.items():
            ends = [end for one in published.OPTIMIZERS for budget in published.BUDGETS
                    for end in published.implied(letter, one, budget).accuracy]  # fmt: skip
            ranges.append(f"{100 * min(ends):.1f} to {max(ends):.1%} with {name}")
        lines.append(
            f"The published tables imply test accuracies of {' and '.join(ranges)}; the size of the cell alone, one "
            f"threshold, is right for {format_value('accuracy', rule['accuracy'])} {format_interval('accuracy', rule)}."
        )
    return tuple(lines)


def _inconsistencies() -> Section:
    rows = [tuple(Value(text) for text in (one.where, one.says, one.tables, one.computed))
            for one in claims.inconsistencies()]  # fmt: skip
    columns = ("where", "the paper says", "its tables say", "how that was computed")
    table = Table("inconsistencies", "Where the paper disagrees with itself", columns, tuple(rows))
    text = "Each line is computed from the published numbers alone; nothing of this study enters."
    return Section("inconsistencies", "What the paper's own numbers contradict", (text,), (table,))
