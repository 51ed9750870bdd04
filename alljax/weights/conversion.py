"""Arrays of a weight file to the variables of a backbone."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import safetensors.numpy
from absl import logging
from flax.traverse_util import flatten_dict, unflatten_dict

from alljax import files
from alljax.errors import WeightsError, first_few, plural
from alljax.models.backbones import BACKBONES, Backbone, get_backbone
from alljax.models.layouts import Layout
from alljax.weights import formats, store

Arrays = Mapping[str, np.ndarray]

CLASSIFIER = "params/classifier/"
ALLJAX_NETWORK = r"(params|batch_stats)/(?!classifier/).*"
ALLJAX_LABELS = r"(layout|source)/[\w.-]+"
"""Empty arrays whose names keep the origin of a converted file, on which the preprocessing depends."""


@dataclass(frozen=True)
class Converted:
    """Variables of a backbone and their origin.

    Attributes:
        variables: ``{"params": …, "batch_stats": …}`` of float32 NumPy arrays (VGG16 has no ``batch_stats``).
        layout: layout of the file, a key of `Backbone.layouts`; of a converted file, that of the original.
        source: known source that a converted file was made from; empty otherwise.
    """

    variables: dict[str, Any] = field(repr=False)
    layout: str
    source: str = ""


@dataclass(frozen=True)
class Match:
    """The arrays of a file that have the names of a layout.

    Attributes:
        backbone: the backbone.
        layout: one of its layouts.
        names: our variable name → name in the file.
        missing: our names, except the classifier's, that the file does not have.
        surplus: names in the file without a variable.
        foreign: the surplus names that belong to another variant of the network.
    """

    backbone: Backbone
    layout: Layout
    names: dict[str, str]
    missing: list[str]
    surplus: list[str]
    foreign: list[str]

    @property
    def likeness(self) -> tuple[int, int]:
        """Orders matches: more arrays found, then fewer missing."""
        return len(self.names), -len(self.missing)


def convert(
    arrays: Arrays, backbone: str, classifier: bool = False, origin: str | Path = "the weight file"
) -> Converted:
    """Returns the arrays of a weight file as the variables of a backbone.

    Arrays are renamed and transposed; float16, bfloat16 and float64 become float32.  A common prefix of the names
    (``module.``, ``backbone.``, an outer Keras model) is removed, arrays of a custom head are ignored and logged.

    Args:
        arrays: name → array, from `alljax.weights.formats.read_weights`.
        backbone: a name in `BACKBONES`.
        classifier: whether to include the ImageNet classifier, if the file has one.
        origin: the file in messages.

    Raises:
        ConfigError: unknown backbone.
        WeightsError: the file is for another network, an array is missing or has another shape, is not floating point
            or contains NaN, or a converted file does not name its layout.
    """
    chosen = get_backbone(backbone)
    match = max((_match(arrays, chosen, layout) for layout in _layouts(chosen)), key=lambda match: match.likeness)
    fits, shapes = match.layout.fits, chosen.shapes
    unfit = [path for path, name in match.names.items() if not fits(arrays[name].shape, shapes[path])]
    misshapen = [path for path in unfit if not path.startswith(CLASSIFIER)]
    if match.missing or match.foreign or misshapen:
        raise WeightsError(f"{origin} {_misfit(arrays, match, misshapen)}; `alljax weights list` shows known files")
    if match.surplus:
        number = plural(len(match.surplus), "tensor")
        logging.info(f"{origin}: ignored {number} outside of {backbone}: {first_few(match.surplus)}")
    wanted = [path for path in shapes if not path.startswith(CLASSIFIER)]
    heads = [path for path in shapes if path.startswith(CLASSIFIER)]
    if classifier and not unfit and all(path in match.names for path in heads):
        wanted += heads
    elif classifier:
        logging.info(f"{origin}: has no ImageNet classifier of {backbone}")
    flat = {}
    for path in wanted:
        array = _finite_float32(arrays[match.names[path]], match.names[path], origin)
        flat[path] = np.ascontiguousarray(match.layout.to_flax(array, path, shapes[path]))
    labels = dict(name.split("/") for name in arrays if re.fullmatch(ALLJAX_LABELS, name))
    layout = match.layout.name if match.layout.name != "alljax" else labels.get("layout", "")
    if layout not in chosen.layouts:
        raise WeightsError(f"{origin} does not name its original layout: convert the original file again")
    return Converted(unflatten_dict(flat, sep="/"), layout, labels.get("source", ""))


def convert_file(path: Path, backbone: str, out: Path) -> int:
    """Writes a weight file as .safetensors with alljax's names (``params/block1/conv1/kernel``).

    The ImageNet classifier is included if the file has one.

    Args:
        path: a weight file.
        backbone: a name in `BACKBONES`.
        out: the file to write.

    Returns:
        The number of parameters and running statistics.

    Raises:
        ConfigError, WeightsError: see `convert`.
        WorkdirError: `out` cannot be written.
    """
    get_backbone(backbone)
    converted = convert(formats.read_weights(path), backbone, classifier=True, origin=path)
    flat = flatten_dict(converted.variables, sep="/")
    known = store.recognize(path)
    source = known.name if known else converted.source
    labels = [f"layout/{converted.layout}", *([f"source/{source}"] if source else [])]
    metadata = {"backbone": backbone, "layout": converted.layout, "source_sha256": store.digest(path)}
    content = flat | {label: np.zeros(0, np.float32) for label in labels}
    files.write_bytes(out, safetensors.numpy.save(content, metadata))
    return sum(array.size for array in flat.values())


def recognize(arrays: Arrays) -> Match | None:
    """Returns the best match among all backbones; None if no name is known."""
    matches = (_match(arrays, backbone, layout) for backbone in BACKBONES.values() for layout in _layouts(backbone))
    best = max(matches, key=lambda match: match.likeness)
    return best if best.names else None


def _layouts(backbone: Backbone) -> Iterator[Layout]:
    yield from backbone.layouts.values()
    description = f"alljax's {backbone.name}"
    yield Layout("alljax", description, "", name_of=str, network=ALLJAX_NETWORK, ignored=ALLJAX_LABELS)


def _match(arrays: Iterable[str], backbone: Backbone, layout: Layout) -> Match:
    """Finds the prefix under which most names of a layout occur in a file."""
    paths = {layout.name_of(path): path for path in backbone.shapes}
    found: dict[str, dict[str, str]] = {"": {}}  # prefix → our name → name in the file
    for name in arrays:
        for start in (0, *(separator.end() for separator in re.finditer("[./]", name))):
            if path := paths.get(layout.normalize(name[start:])):
                found.setdefault(name[:start], {}).setdefault(path, name)
    prefix = max(found, key=lambda prefix: len(found[prefix]))
    names = found[prefix]
    used = set(names.values())
    rest = {name: layout.normalize(name.removeprefix(prefix)) for name in arrays if name not in used}
    surplus = [name for name, short in rest.items() if not re.fullmatch(layout.ignored, short)]
    foreign = [name for name in surplus if name.startswith(prefix) and re.fullmatch(layout.network, rest[name])]
    missing = [path for path in backbone.shapes if path not in names and not path.startswith(CLASSIFIER)]
    return Match(backbone, layout, names, missing, surplus, foreign)


def _misfit(arrays: Arrays, match: Match, misshapen: list[str]) -> str:
    """Returns why a file is not one of the match's backbone."""
    backbone, layout = match.backbone, match.layout
    best = recognize(arrays)
    if best and best.backbone is not backbone and best.likeness > match.likeness:
        return (
            f"is for another network: it looks like {best.layout.description}, not {backbone.name}; "
            f"set model.backbone to {best.backbone.name!r} or use a file of {backbone.name}"
        )

    def expected(path: str) -> str:
        return f"{layout.name_of(path)} {layout.shape_of(backbone.shapes[path])}"

    found = f"the file has {first_few(repr(name) for name in arrays) or 'no tensors'}"
    shapes = [
        f"{match.names[path]} {arrays[match.names[path]].shape} instead of {expected(path)}" for path in misshapen
    ]
    problems = [
        f"{plural(len(names), 'tensor')} {problem}: {first_few(names)}"
        for problem, names in (
            ("missing", [expected(path) for path in match.missing]),
            ("of another shape", shapes),
            ("of another variant of the network", match.foreign),
        )
        if names
    ]
    return f"does not fit {backbone.name} ({layout.description}): {'; '.join(problems)}; {found}"


def _finite_float32(array: np.ndarray, name: str, origin: str | Path) -> np.ndarray:
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise WeightsError(f"{origin}: {name} has the type {array.dtype}, not floating point: use another file")
    with np.errstate(over="ignore"):
        array = np.asarray(array, np.float32)
    if not np.isfinite(array).all():
        raise WeightsError(f"{origin}: {name} contains NaN or infinity: use an undamaged file")
    return array
