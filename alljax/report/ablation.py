"""What the settings of a study do: a table, a figure and a paragraph that says how much of it is noise."""

from collections.abc import Mapping, Sequence
from typing import Any

from alljax.evaluation.comparison import Difference
from alljax.evaluation.metrics import METRICS
from alljax.report import dots, findings, setting_names, tables
from alljax.report.setting_names import Factor
from alljax.report.tables import Figure, Section, Table, Value, format_interval, format_value
from alljax.study.results import Study

MOST_DRAWN = 3
"""Settings that one figure can show: on the axis, as colors, as panels."""


def sections(study: Study) -> list[Section]:
    """Returns the section about what a study varies; none where nothing differs or other sections say it.

    Args:
        study: the study; the predictions of all its cells are read.

    Raises:
        WorkdirError: a cell's predictions are missing or cut off.
    """
    varied = setting_names.varied(study)
    if not varied or study.config.get("study.compare") or len(study.metrics["trials"]) < 2:
        return []
    order = study.ranking.order
    gaps = study.ranking.differences
    parts: list[Table | Figure] = [_table(study, order, gaps, varied)]
    paragraphs = [_best(study, order, gaps, varied), *_others(study, gaps)]
    if picture := dots.picture(study, varied[:MOST_DRAWN]) if len(varied) <= MOST_DRAWN else None:
        parts.insert(0, picture)
    else:
        paragraphs.append("No figure: it could not show so many settings and values at once. The table has them all.")
    return [Section("changes", f"What the settings change: {_listed(varied)}", tuple(paragraphs), tuple(parts))]


def _table(study: Study, order: Sequence[str], gaps: Mapping[str, Difference], varied: Sequence[Factor]) -> Table:
    trials = study.metrics["trials"]
    by = study.ranking.metric
    leaky = study.ranking.leaky
    metrics = list(dict.fromkeys([by, "accuracy", "macro_f1"]))
    columns = [
        *(factor.name for factor in varied),
        METRICS[by],
        "sd over seeds",
        *(METRICS[name] for name in metrics[1:]),
        "difference to the best",
        "verdict",
    ]
    rows = []
    for name in order:
        settings, result = study.settings(name), trials[name]
        marks = [_setting(factor, settings) for factor in varied]
        if name in leaky:
            marks[0] = Value(marks[0].text, marks[0].number, "its test leaks")
        spread = result["std"][by]
        first = Value(format_value(by, result[by]), result[by], format_interval(by, result))
        others = [
            Value(format_value(key, result[key]), result[key], format_interval(key, result)) for key in metrics[1:]
        ]
        seeds = Value("–", note="one seed") if spread is None else Value(findings.distance(by, spread), spread)
        rows.append((*marks, first, seeds, *others, *_compared(by, gaps.get(name), name in leaky)))
    unit = trials[order[0]]["interval_unit"]
    level = f"{study.config['evaluation.level']:.0%}"
    notes = [
        f"In brackets: {level} intervals over {unit}. Differences are of two models on the same images, with the "
        f"same {unit} drawn for both (paired bootstrap), so they are surer than the models' own intervals suggest."
    ]
    if len(gaps) > 1:
        notes.append(
            f"The best was chosen among {len(order)}, and the luckiest of equals always looks best; so the intervals "
            f"of the differences are wide enough for all pairs at once: in about {_tail(study):.0%} of studies of "
            "equal models any of them comes out “clearly below” by chance, more often where "
            "people are few."
        )
    return Table("ablation", f"Every model, best first by {METRICS[by]}", tuple(columns), tuple(rows), (), tuple(notes))


def _tail(study: Study) -> float:
    return 1 - float(study.config["evaluation.level"])


def _setting(factor: Factor, settings: Mapping[str, Any]) -> Value:
    place = factor.place(settings)
    number = factor.numbers[place] if factor.numbers and place is not None else None
    return Value(factor.label(settings), number)


def _compared(by: str, gap: Difference | None, leaks: bool) -> tuple[Value, Value]:
    """Returns the difference to the best and what follows from it."""
    if gap is None:
        return Value(""), Value("the best")
    bounds = "" if gap.interval is None else tables.format_difference_bounds(by, gap.interval)
    number = Value(tables.format_difference(by, gap.value, unit=True), gap.value, bounds)
    if leaks:
        return number, Value("its test leaks: not ranked")
    if not gap.paired:
        apart = {True: "own intervals apart", False: "own intervals overlap", None: "no interval"}[gap.disjoint]
        return number, Value(apart, note="tested on other images")
    if gap.interval is None:
        return number, Value("no interval")
    return number, Value("clearly below" if gap.below else "not distinguishable")


def _best(study: Study, order: Sequence[str], gaps: Mapping[str, Difference], varied: Sequence[Factor]) -> str:
    """Names the best cell with its interval, and says whether it is really ahead of the next."""
    trials = study.metrics["trials"]
    by, unit = study.ranking.metric, trials[order[0]]["interval_unit"]
    name, second = order[:2]
    said = f"{METRICS[by]} {format_value(by, trials[name][by])} {format_interval(by, trials[name])}".strip()
    among = f"Of {len(order)} models" + (", leaving out those whose test leaks," if study.ranking.leaky else "")
    text = f"{among} the best is {setting_names.describe(varied, study.settings(name))}, with {said}. "
    if second in study.ranking.leaky:
        return text + "No other model was tested without a leak."
    gap = gaps[second]
    behind = findings.distance(by, gap.value)
    text += f"The next, {setting_names.describe(varied, study.settings(second))}, is {behind} behind"
    if not gap.paired:
        return f"{text}, but was tested on other images: the two cannot be compared image by image."
    if gap.interval is None:
        return f"{text}; no interval could be drawn for that difference."
    reach = findings.ahead(by, gap.interval)
    if gap.below:
        return f"{text} {reach}: more than the choice of {unit} explains."
    return f"{text} {reach}: not significant, no more than the choice of {unit} explains."


def _others(study: Study, gaps: Mapping[str, Difference]) -> list[str]:
    """Counts what was not compared with the best."""
    leaky, lines = study.ranking.leaky, []
    if strange := sum(not gap.paired for name, gap in gaps.items() if name not in leaky):
        lines.append(
            f"{_count(strange, 'model was', 'models were')} tested on other images than the best one and cannot be "
            "compared with it image by image: there only the models' own intervals can be held side by side, "
            "which sees less."
        )
    if leaky:
        lines.append(
            f"{_count(len(leaky), 'model was', 'models were')} tested on people, photographs or images that were "
            "trained on. Such numbers are too high and take no part in the ranking."
        )
    return lines


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def _listed(varied: Sequence[Factor]) -> str:
    *before, last = (factor.name for factor in varied)
    return f"{', '.join(before)} and {last}" if before else last
