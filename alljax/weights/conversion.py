"""Arrays of a weight file to the variables of a backbone."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import safetensors.numpy
from absl import logging
from flax.traverse_util import flatten_dict, unflatten_dict

from alljax import files
from alljax.errors import WeightsError, first_few, plural
from alljax.models.backbones import BACKBONES, Backbone, Layout, get_backbone
from alljax.weights import formats, store

ALLJAX = Layout("alljax", "", "flax", {}, r"(params|batch_stats)/(?!classifier/).*")
ALLJAX_LABELS = r"(layout|source)/[\w.-]+"
"""Empty arrays whose names keep the origin of a converted file, on which the preprocessing depends."""


@dataclass(frozen=True)
class Converted:
    """Variables of a backbone and their origin."""

    variables: dict[str, Any]  # {"params": …, "batch_stats": …} of float32 arrays (VGG16 has no batch_stats)
    layout: str  # of the file, a key of Backbone.layouts; of a converted file, that of the original
    source: str  # known source that a converted file was made from; empty otherwise


@dataclass(frozen=True)
class Match:
    """The arrays of a file that have the names of a layout."""

    backbone: Backbone
    layout: Layout
    names: dict[str, str]  # our variable name → name in the file
    missing: list[str]  # our names that the file does not have
    surplus: list[str]  # names in the file without a variable
    foreign: list[str]  # the surplus names that belong to another variant of the network


def convert(arrays: Mapping[str, np.ndarray], backbone: str, origin: str | Path = "the weight file") -> Converted:
    """Returns the arrays of a weight file as the variables of a backbone.

    Arrays are renamed and transposed, and become float32.  A prefix of the names (``state_dict/module.``, an outer
    Keras model) is removed; arrays outside of the network, such as the ImageNet classifier, are ignored and logged.
    Raises `WeightsError`, in which `origin` is the file, if an array is missing or does not fit.
    """
    chosen = get_backbone(backbone)
    match, shapes = best_match(arrays, [chosen]), chosen.shapes
    found = {path: match.layout.to_flax(arrays[name]) for path, name in match.names.items()}
    misshapen = [path for path, array in found.items() if array.shape != shapes[path]]
    if match.missing or match.foreign or misshapen:
        raise WeightsError(f"{origin} {_misfit(arrays, match, misshapen)}; `alljax weights list` shows known files")
    if match.surplus:
        number = plural(len(match.surplus), "tensor")
        logging.info(f"{origin}: ignored {number} outside of {backbone}: {first_few(match.surplus)}")
    flat = {path: _finite_float32(found[path], match.names[path], origin) for path in shapes}
    labels = dict(name.split("/") for name in arrays if re.fullmatch(ALLJAX_LABELS, name))
    if (layout := labels.get("layout", match.layout.name)) not in chosen.layouts:
        raise WeightsError(f"{origin} does not name its original layout: convert the original file again")
    return Converted(unflatten_dict(flat, sep="/"), layout, labels.get("source", ""))


def convert_file(path: Path, backbone: str, out: Path) -> int:
    """Writes a weight file as .safetensors with alljax's names; returns the number of parameters and statistics."""
    converted = convert(formats.read_weights(path), backbone, path)
    flat = flatten_dict(converted.variables, sep="/")
    known = store.recognize(path)
    labels = {"layout": converted.layout, "source": known.name if known else converted.source}
    content = flat | {f"{key}/{name}": np.zeros(0, np.float32) for key, name in labels.items() if name}
    files.write_bytes(out, safetensors.numpy.save(content))
    return sum(array.size for array in flat.values())


def best_match(names: Iterable[str], backbones: Iterable[Backbone] = BACKBONES.values()) -> Match:
    """Returns the best match of the tensor names in a file; without names if the file fits none of the backbones."""
    layouts = [(backbone, layout) for backbone in backbones for layout in (*backbone.layouts.values(), ALLJAX)]
    matches = (_match(names, *each) for each in layouts)
    return max(matches, key=lambda match: (len(match.names), -len(match.missing)))


def _match(names: Iterable[str], backbone: Backbone, layout: Layout) -> Match:
    """Finds the prefix under which most names of a layout occur in a file."""
    paths = {layout.name_of(path): path for path in backbone.shapes}
    matches: dict[str, dict[str, str]] = {"": {}}  # prefix → our name → name in the file
    for name in names:
        for start in (0, *(separator.end() for separator in re.finditer("[./]", name))):
            if path := paths.get(layout.normalize(name[start:])):
                matches.setdefault(name[:start], {}).setdefault(path, name)
    prefix = max(matches, key=lambda prefix: len(matches[prefix]))
    matched = matches[prefix]
    missing = [path for path in backbone.shapes if path not in matched]
    used = set(matched.values())
    not_reported = rf".*\.num_batches_tracked|{ALLJAX_LABELS}"
    surplus = [name for name in names if name not in used and not re.fullmatch(not_reported, name)]
    inside = [name for name in surplus if name.startswith(prefix)]
    foreign = [name for name in inside if re.fullmatch(layout.network, layout.normalize(name.removeprefix(prefix)))]
    return Match(backbone, layout, matched, missing, surplus, foreign)


def _misfit(arrays: Mapping[str, np.ndarray], match: Match, misshapen: list[str]) -> str:
    """Returns why a file is not one of the match's backbone."""
    backbone, layout = match.backbone, match.layout
    best = best_match(arrays)
    if best.backbone is not backbone and len(best.names) > len(match.names):
        other = best.backbone.name
        return f"looks like {other} ({best.layout.name}), not {backbone.name}; set model.backbone to {other!r}"
    expected = {path: f"{layout.name_of(path)} {layout.shape_of(shape)}" for path, shape in backbone.shapes.items()}
    found = {path: f"{name} {arrays[name].shape}" for path, name in match.names.items()}
    problems = {
        "missing": [expected[path] for path in match.missing],
        "of another shape": [f"{found[path]} instead of {expected[path]}" for path in misshapen],
        "of another variant of the network": match.foreign,
    }
    listed = [
        f"{plural(len(names), 'tensor')} {problem}: {first_few(names)}" for problem, names in problems.items() if names
    ]
    first = first_few(repr(name) for name in arrays)
    return f"does not fit {backbone.name} ({layout.name}): {'; '.join(listed)}; the file has {first}"


def _finite_float32(array: np.ndarray, name: str, origin: str | Path) -> np.ndarray:
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise WeightsError(f"{origin}: {name} has the type {array.dtype}, not floating point: use another file")
    with np.errstate(over="ignore"):
        array = np.ascontiguousarray(array, np.float32)
    if not np.isfinite(array).all():
        raise WeightsError(f"{origin}: {name} contains NaN or infinity: use an undamaged file")
    return array
