"""Other people's tensors to our parameter trees, every one accounted for."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from alljax.errors import WeightsError
from alljax.models import backbones
from alljax.weights.families import FAMILIES, Family

CLASSIFIER = "params/classifier/"
SOURCE = "source/"
NAMED = 3
"""How many tensors of a kind an error names before it counts the rest."""


@dataclass(frozen=True)
class Ported:
    """Variables of a backbone and where they come from.

    Attributes:
        variables: ``{"params": …, "batch_stats": …}`` of float32 NumPy arrays (no ``batch_stats`` for
            VGG16, which has none); put them on a device once before calling a compiled function often.
        family: whose weights they are, a key of `catalog.Backbone.families`.
        source: the known source that a file in our own layout was rewritten from; else empty.
    """

    variables: dict[str, Any] = field(repr=False)
    family: str
    source: str = ""


def port(
    tensors: Mapping[str, np.ndarray], backbone: str, classifier: bool = False, origin: str = "the weight file"
) -> Ported:
    """Returns a weight file's tensors as the variables of a backbone.

    Tensors are renamed, transposed and (VGG16's first fully connected layer
    from PyTorch) permuted; float16, bfloat16 and float64 become float32.

    Args:
        tensors: name → array, as `alljax.weights.formats.read` gives them.
        backbone: a name in `alljax.models.catalog`.
        classifier: whether the 1000-way ImageNet classifier is wanted.  If not, it may be
            absent, and one that is there is left out without being copied.
        origin: what an error calls the file, for example its path.

    Raises:
        ConfigError: there is no such backbone.
        WeightsError: the file is of another network; a tensor is missing, surplus, misshapen,
            not of floating point, or holds a NaN or infinity; a file in our own layout
            does not say whose weights it holds.
    """
    backbones.get(backbone)
    family = recognize(tensors, backbone, origin)
    spelled = _spelled(tensors, family, origin)
    wanted = {name: path for name, path in family.names.items() if classifier or not path.startswith(CLASSIFIER)}
    _check_fit(spelled, wanted, family, origin)
    flat = {}
    for name, path in wanted.items():
        tensor = _finite_float32(spelled[name], name, origin)
        flat[path] = np.ascontiguousarray(family.to_ours(path, tensor))
    source = next((name.removeprefix(SOURCE) for name in tensors if name.startswith(SOURCE)), "")
    return Ported(unflatten_dict(flat, sep="/"), _origin_family(tensors, family, origin), source)


def flatten(ported: Ported) -> dict[str, np.ndarray]:
    """Returns variables under flat names, to be written as a file in alljax's own layout.

    Empty tensors ``family/<name>`` and, where it is known, ``source/<name>`` are added, for the
    preprocessing depends on them and must survive the rewriting.
    """
    flat = flatten_dict(ported.variables, sep="/")
    origins = [f"family/{ported.family}", *([f"{SOURCE}{ported.source}"] if ported.source else [])]
    return {**flat, **{origin: np.zeros(0, np.float32) for origin in origins}}


def recognize(tensors: Mapping[str, np.ndarray], backbone: str, origin: str = "the weight file") -> Family:
    """Returns the family whose names these tensors bear, for this backbone.

    Raises:
        WeightsError: they bear the names of another backbone, or of none that we know.
    """

    def likeness(family: Family) -> tuple[int, int]:
        # On a tie the network that is more completely there.
        known = sum(family.spelling(name) in family.names for name in tensors)
        return known, -len(family.names)

    ours = max((family for family in FAMILIES if family.backbone == backbone), key=likeness)
    best = max(FAMILIES, key=likeness)
    if likeness(best)[0] == 0:
        raise WeightsError(
            f"{origin} holds no tensor of {backbone} or another network that alljax knows: its names are "
            f"{_some([repr(name) for name in tensors]) or 'none'}; {_mend(backbone)}"
        )
    if likeness(best) > likeness(ours):
        raise WeightsError(
            f"{origin} is of another network: it looks like {best.description}, not {backbone}; "
            f"set model.backbone to '{best.backbone}', or {_mend(backbone)}"
        )
    return ours


def _spelled(tensors: Mapping[str, np.ndarray], family: Family, origin: str) -> dict[str, np.ndarray]:
    """Returns the tensors under the names that the family gives them, without what is no part of it."""
    spelled: dict[str, np.ndarray] = {}
    for name, tensor in tensors.items():
        if re.fullmatch(family.ignored, key := family.spelling(name)):
            continue
        if key in spelled:
            raise WeightsError(f"{origin} holds {key!r} twice (once as {name!r}): get an undamaged file")
        spelled[key] = tensor
    return spelled


def _check_fit(tensors: Mapping[str, np.ndarray], wanted: Mapping[str, str], family: Family, origin: str) -> None:
    """Raises one line that names what is missing, left over or of another shape."""
    missing = [f"{name} {family.shape_of(path)}" for name, path in wanted.items() if name not in tensors]
    surplus = [f"{name} {tensor.shape}" for name, tensor in tensors.items() if name not in family.names]
    misshapen = [
        f"{name} is {tensors[name].shape} and should be {family.shape_of(path)}"
        for name, path in wanted.items()
        if name in tensors and tensors[name].shape != family.shape_of(path)
    ]
    problems = [
        f"{len(names)} {'tensor' if len(names) == 1 else 'tensors'} {what}: {_some(names)}"
        for what, names in (("missing", missing), ("surplus", surplus), ("misshapen", misshapen))
        if names
    ]
    if problems:
        raise WeightsError(
            f"{origin} does not fit {family.backbone} ({family.description}): {'; '.join(problems)}; "
            + _mend(family.backbone)
        )


def _finite_float32(tensor: np.ndarray, name: str, origin: str) -> np.ndarray:
    if not jnp.issubdtype(tensor.dtype, jnp.floating):
        raise WeightsError(f"{origin}: {name} holds {tensor.dtype}, not floating-point numbers: get another file")
    with np.errstate(over="ignore"):
        tensor = np.asarray(tensor, np.float32)
    if not np.isfinite(tensor).all():
        raise WeightsError(f"{origin}: {name} holds a NaN or infinity: get an undamaged file")
    return tensor


def _origin_family(tensors: Mapping[str, np.ndarray], family: Family, origin: str) -> str:
    """Returns the family's name; for a file in our own layout the one that it says it came from."""
    if family.name != "alljax":
        return family.name
    for known in backbones.get(family.backbone).families:
        if f"family/{known}" in tensors:
            return known
    raise WeightsError(
        f"{origin} is in alljax's own layout but does not say whose weights it holds, which decides the "
        "preprocessing: write it anew with `alljax weights port`"
    )


def _some(names: Sequence[str]) -> str:
    rest = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {rest} more" if rest > 0 else "")


def _mend(backbone: str) -> str:
    return f"get a file of {backbone} (`alljax weights list` shows the known ones)"
