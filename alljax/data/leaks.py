"""Leakage between the sides of a split: subjects, photographs and identical images that are on two sides."""

from collections.abc import Hashable, Sequence
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from alljax.data.archive import natural_sort
from alljax.data.dataset import Record
from alljax.errors import LeakError, first_few, plural

if TYPE_CHECKING:
    from alljax.data.splits import Fold


def count_leaks(
    folds: "Sequence[Fold]", records: Sequence[Record], subjects: Sequence[str], digests: Sequence[Hashable] = ()
) -> dict[str, int]:
    """Counts the test images that are related to training or validation images, summed over the folds.

    Args:
        folds: from `alljax.data.splits.make_splits`.
        records: N records.
        subjects: N subjects.
        digests: N digests of files or pixels; empty to skip duplicates.

    Returns:
        ``test_images``, their number; ``subject``, those whose subject is in the training data; ``field``, those with
        another cell of the same photograph (subject and field) there; and, with digests, ``duplicate``, those whose
        image is there.
    """
    # Records without a field get a field of their own.
    fields = [(each.subject, each.field) if each.field else (each.path, "") for each in records]
    counts = {
        "test_images": sum(len(fold.test) for fold in folds),
        "subject": _shared(folds, subjects),
        "field": _shared(folds, fields),
    }
    return counts | ({"duplicate": _shared(folds, digests)} if digests else {})


def check_leaks(folds: "Sequence[Fold]", subjects: Sequence[str], digests: Sequence[str], protocol: str) -> None:
    """Checks that no subject and no image is on two sides of a fold.

    Raises:
        LeakError: names the subjects.
    """
    fix = "this is a bug, please report it"
    if protocol == "prelim":
        fix = "remove their images from one of the subsets, or set split.protocol=subject_kfold"
    for keys, shared in ((codes_of(subjects), "images of the same subject"), (codes_of(digests), "the same image")):
        for fold in folds if len(keys) else ():
            for (one, left), (other, right) in combinations(fold.sides, 2):
                if len(rows := right[np.isin(keys[right], keys[left])]):
                    names = natural_sort({subjects[row] for row in rows})
                    raise LeakError(
                        f"protocol {protocol} leaks in fold {fold.fold} of repeat {fold.repeat}: {len(rows):,} of "
                        f"{len(right):,} {other} images have {shared} on the {one} side "
                        f"({plural(len(names), 'subject')}: {first_few(names)}); {fix}"
                    )


def codes_of(keys: Sequence[Hashable]) -> NDArray[np.int64]:
    """Returns a number per key, from 0 in order of first occurrence."""
    number = {key: code for code, key in enumerate(dict.fromkeys(keys))}
    return np.array([number[key] for key in keys], np.int64)


def _shared(folds: "Sequence[Fold]", keys: Sequence[Hashable]) -> int:
    """Returns the number of test rows whose key also occurs in training or validation rows."""
    codes = codes_of(keys)
    return sum(int(np.isin(codes[each.test], codes[np.r_[each.train, each.validation]]).sum()) for each in folds)
