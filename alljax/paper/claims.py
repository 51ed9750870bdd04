"""What the paper states, checked by code against its own numbers: what agrees, and what does not.

Every check is a function of a `Paper` and computes its verdict; `claims_tables` has those that are
arithmetic on the tables, `claims_tested` those on the confusion matrices that the tables imply.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator

from alljax.paper import claims_tables, claims_tested
from alljax.paper.published import PAPER, Check, Paper

IMAGENET_CLASSES = 1000
"""Outputs of the published VGG16 and ResNet50, and classes of the ILSVRC data that their top-5 rates are of."""

PROPOSED = "Proposed"


def images(paper: Paper) -> Check:
    """Adds up the images of both classes, and looks whether 20 % of them were tested."""
    claims = paper.claims
    total = claims["images all"] + claims["images hem"]
    tested = math.ceil(0.2 * claims["images"])
    return Check(
        "Sections 2.1 and 2.6",
        f"{claims['images']:,.0f} images; {claims['images trained']:,.0f} for training, {claims['images tested']:,.0f} "
        "for the test",
        f"the classes have {total:,.0f}; 20 % are {tested:,}, the others {claims['images'] - tested:,.0f}",
        "sums; 20 % rounded up, as scikit-learn does",
        total == claims["images"] and (claims["images trained"], claims["images tested"])
        == (claims["images"] - tested, tested),
    )  # fmt: skip


def validation(paper: Paper) -> Check:
    """Looks how many images are left for the validation curves."""
    left = paper.claims["images"] - paper.claims["images trained"] - paper.claims["images tested"]
    return Check(
        "Section 3.1, Figures 7 and 8",
        "curves of validation accuracy and loss",
        f"{left:,.0f} images are neither trained on nor tested"
        + ("" if left else ": the validation images are the test images, and the epochs were chosen on them"),
        "images less those trained on and those tested",
        left > 0,
    )


def learning_rate(paper: Paper) -> Check:
    """Computes the learning rate that the stated decay leaves."""
    claims = paper.claims
    steps = math.ceil(claims["images trained"] / claims["batch size"])
    rates = {
        epochs: claims["learning rate"] * claims["decay rate"] ** (steps * epochs / claims["decay steps"])
        for epochs in (10, 50, 100)
    }
    return Check(
        "Abstract; Section 2.6",
        f"a consistent learning rate of {claims['learning rate']:g}",
        "; ".join(f"{rate:.2e} after {epochs} epochs" for epochs, rate in rates.items()),
        f"decay by {claims['decay rate']:g} every {claims['decay steps']:.0f} steps, {steps} steps an epoch",
        all(rate == claims["learning rate"] for rate in rates.values()),
    )


def imagenet(paper: Paper) -> Check:
    """Compares the stated number of ImageNet's classes with what VGG16 was trained to tell apart."""
    stated = paper.claims["ImageNet classes"]
    return Check(
        "Section 2.3",
        f"ImageNet: 14 million images of {stated:,.0f} classes",
        f"VGG16 tells {IMAGENET_CLASSES:,} classes apart",
        "outputs of the published network; not from the paper's tables",
        stated == IMAGENET_CLASSES,
    )


def twice_cited(paper: Paper) -> Iterator[Check]:
    """Yields pairs of references that are one publication under two numbers."""
    for (first, one), (second, other) in itertools.combinations(sorted(paper.references.items()), 2):
        if one == other:
            rows = [row for row in paper.others if row.study in (f"[{first}]", f"[{second}]")]
            yield Check(
                f"References [{first}] and [{second}]; Table 7",
                "; ".join(f"{row.study}: {row.model}, {row.dataset}, {row.accuracy:.2f} %" for row in rows),
                f"one publication: {one[0]}, doi {one[-1]}",
                "authors, years and DOIs compared",
                False,
            )


def two_accuracies(paper: Paper) -> Check:
    """Compares what Table 7 and the introduction say of reference [10]."""
    stated = paper.claims["[10] dataset 2, introduction"]
    table = [row.accuracy for row in paper.others if row.study == "[10]"]
    own = _proposed(paper)
    return Check(
        "Table 7 and introduction, [10]",
        f"{stated:.2f} % in the introduction (dataset 2)",
        f"{', '.join(f'{value:.2f} %' for value in table)} in Table 7; the paper's best, {max(own):.2f} %, lies "
        f"{'between the two' if min(table) < max(own) < stated else 'on one side of both'}",
        "the two places compared",
        table == [stated],
    )


def highest_of_others(paper: Paper) -> Check:
    """Looks for accuracies in the introduction above the highest of Table 7."""
    best = max(paper.others, key=lambda row: row.accuracy)
    stated = paper.claims["[8] ALL-IDB2, introduction"]
    cited = any(row.study == "[8]" for row in paper.others)
    return Check(
        "Section 3.2, Table 7",
        f"the highest accuracy of relevant studies is {best.accuracy:.2f} %, {best.study}, {best.dataset}",
        f"the introduction has {stated:.2f} % for [8] on ALL-IDB2" + ("" if cited else ", which Table 7 leaves out"),
        "the largest number of Table 7 beside the introduction",
        best.accuracy >= stated,
    )  # fmt: skip


def outperformed(paper: Paper) -> Iterator[Check]:
    """Checks each study that the text says it is better than."""
    for number in paper.beaten:
        rows = [row for row in paper.others if row.study == f"[{number}]"]
        own = [row for row in paper.others if row.study == PROPOSED]
        behind = [one.model for one in own if any(one.accuracy <= row.accuracy for row in rows)]
        tables = "; ".join(f"{row.accuracy:.2f} %, {row.images:,} images" for row in rows) or "no row of Table 7"
        yield Check(
            f"Section 3.2, [{number}]",
            f"the proposed method outperforms [{number}]",
            tables + (f"; {' and '.join(behind)} does not" if behind else ""),
            "Table 7: " + ", ".join(f"{row.model} {row.accuracy:.2f} %" for row in own),
            bool(rows) and len(behind) < len(own),
        )


def similar_datasets(paper: Paper) -> Check:
    """Looks for rows of Table 7 that are not of leukemia."""
    known = ("CMNC Leukemia", "ALL-IDB1", "ALL-IDB2")
    strange = [row for row in paper.others if row.dataset not in known]
    return Check(
        "Section 3.2, Table 7",
        "a comparison on similar leukemia datasets",
        "; ".join(f"{row.study}: {row.dataset}, {row.images:,} images" for row in strange) or "all are of leukemia",
        f"datasets other than {', '.join(known)}",
        not strange,
    )


def many_datasets(paper: Paper) -> Check:
    """Counts the datasets that the paper itself tested."""
    own = sorted({row.dataset for row in paper.others if row.study == PROPOSED})
    return Check(
        "Introduction; conclusion",
        "optimizers compared on various datasets; results good for many datasets",
        f"{len(own)} tested: {', '.join(own)}",
        "datasets of the proposed rows of Table 7",
        len(own) > 1,
    )


CHECKS: tuple[Callable[[Paper], Check | Iterable[Check]], ...] = (
    images, *claims_tables.CHECKS, *claims_tested.CHECKS, validation, learning_rate, two_accuracies,
    highest_of_others, outperformed, similar_datasets, many_datasets, twice_cited, imagenet,
)  # fmt: skip


def checks(paper: Paper = PAPER) -> list[Check]:
    """Returns every statement that was checked, those that hold too."""
    found = (check(paper) for check in CHECKS)
    return [one for each in found for one in ([each] if isinstance(each, Check) else each)]


def inconsistencies(paper: Paper = PAPER) -> list[Check]:
    """Returns the statements that the paper's own numbers contradict."""
    return [check for check in checks(paper) if not check.holds]


def _proposed(paper: Paper) -> list[float]:
    return [row.accuracy for row in paper.others if row.study == PROPOSED]
