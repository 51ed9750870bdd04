"""Weight files, recognized by content, to the variables of a backbone, without PyTorch, TensorFlow or Keras."""

import io
import json
import re
import zipfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, Any

import jax.numpy as jnp
import numpy as np
import safetensors.numpy
from absl import logging
from flax.traverse_util import flatten_dict, unflatten_dict

from alljax import files
from alljax.data.archive import read_member
from alljax.errors import DataError, WeightsError, first_few, plural
from alljax.models.backbones import BACKBONES, Backbone, Layout, get_backbone
from alljax.weights import pickles, store
from alljax.weights.pickles import Arrays

ALLJAX = Layout("alljax", "", "flax", {}, r"(params|batch_stats)/(?!classifier/).*")
"""The layout of converted files, whose header is a `store.Source`, on which the preprocessing depends."""


@dataclass(frozen=True)
class Converted:
    """Variables of a backbone and their origin."""

    variables: dict[str, Any]  # {"params": …, "batch_stats": …} of float32 arrays (VGG16 has no batch_stats)
    layout: str  # of the file, a key of Backbone.layouts; of a converted file, that of the original


@dataclass(frozen=True)
class Match:
    """The arrays of a file that have the names of a layout."""

    backbone: Backbone
    layout: Layout
    prefix: str  # of the names in the file
    names: dict[str, str]  # our variable name → name in the file


def read_weights(path: str | Path) -> Arrays:
    """Returns the arrays in a file by the names stored there, nested ones joined by ``/``, without an optimizer's."""
    path = Path(path)
    if path.is_dir():
        raise WeightsError(f"{path}: a folder; give the weight file itself (of a SavedModel: {store.KERAS_SAVE})")
    try:
        file = path.open("rb")
    except OSError as error:
        raise WeightsError(f"{path}: {error.strerror}; check the path (--config.weights.path)") from error
    with file:
        try:
            return _read(path, file)
        except (WeightsError, DataError) as error:  # DataError: larger than what may be read
            raise WeightsError(f"{path}: {error}") from error
        except Exception as error:  # parsers of damaged bytes raise errors of any kind
            reason = " ".join(ascii(str(error))[1:-1].split())[:200] or type(error).__name__
            raise WeightsError(f"{path}: damaged or incomplete ({reason}); copy or download it again") from error


def _read(path: Path, file: IO[bytes]) -> Arrays:
    head = file.read(512)
    file.seek(0)
    if head.startswith(b"PK\x03\x04"):
        return _read_zip(file)
    if head.startswith(b"\x89HDF\r\n\x1a\n"):
        return _read_keras(file, {})
    if head[4:9] == b"\0\0\0\0{":  # after the length of the header, which is below 4 GB
        return safetensors.numpy.load_file(path)
    if b"\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19" in head[:32]:  # PyTorch's magic number, an integer
        return pickles.read_legacy(file)
    if head.startswith(b"\x80"):
        return pickles.Unpickler(file).arrays()
    if head.startswith(b"version https://git-lfs"):
        raise WeightsError("a Git LFS pointer; run 'git lfs pull' or download the file itself")
    if head.lstrip().startswith(b"<"):
        raise WeightsError("a web page, not weights; download the file again")
    raise WeightsError("empty, or not a weight file (.pth, .safetensors, Keras .h5 or .keras, pickled NumPy arrays)")


def _read_zip(file: IO[bytes]) -> Arrays:
    with zipfile.ZipFile(file) as archive:
        names = archive.namelist()
        files.check_size("the content of the zip", sum(member.file_size for member in archive.infolist()))
        if "model.weights.h5" in names:
            layers = dict(_layer_names(json.loads(read_member(archive, "config.json"))["config"]))
            return _read_keras(io.BytesIO(read_member(archive, "model.weights.h5")), layers)
        if pickled := [name for name in names if name.endswith("data.pkl")]:
            return pickles.read_zip(archive, pickled[0])
    raise WeightsError("a zip archive without PyTorch or Keras weights; give the weight file inside")


def _read_keras(file: IO[bytes], layers: dict[str, str]) -> Arrays:
    """Reads an HDF5 file; `layers` has the names of layers for which Keras 3 stored none."""
    try:
        import h5py
    except ImportError as error:
        raise WeightsError("weights of Keras need h5py, which is absent: pip install 'alljax[keras]'") from error
    arrays: Arrays = {}

    def add(path: str, item: Any) -> None:
        layer, _, last = path.rpartition("/")
        name = item.attrs.get("name", layers.get(layer))
        if path.startswith("optimizer/"):
            return
        if last == "vars" and name:  # Keras 3 stores variables without names, in order
            values = [variable[()] for variable in item.values()]
            normalization = len(values) == 4 and all(value.ndim == 1 for value in values)
            kinds = ("gamma", "beta", "moving_mean", "moving_variance") if normalization else ("kernel", "bias")
            arrays.update({f"{name}/{kind}": value for kind, value in zip(kinds, values, strict=False)})
        elif isinstance(item, h5py.Dataset) and not layer.endswith("/vars"):
            arrays[path] = np.asarray(item)

    sizes: list[int] = []
    with h5py.File(file, "r") as opened:
        opened.visititems(lambda path, item: sizes.append(getattr(item, "nbytes", 0)))
        files.check_size("the content of the HDF5 file", sum(sizes))
        opened.get("model_weights", opened).visititems(add)
    if not arrays:
        raise WeightsError(f"an HDF5 file without names of Keras layers; {store.KERAS_SAVE}")
    return arrays


def _layer_names(config: dict[str, Any], path: str = "") -> Iterator[tuple[str, str]]:
    """Yields the HDF5 path and the name of each layer; Keras 3 numbers the layers of a class: conv2d, conv2d_1."""
    count: Counter[str] = Counter()
    for layer in config.get("layers", []):
        spaced = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", layer["class_name"])
        kind = re.sub(r"([a-z])([A-Z])", r"\1_\2", spaced).lower()
        group = f"{path}layers/{kind}{f'_{count[kind]}' if count[kind] else ''}"
        count[kind] += 1
        yield group, layer["config"]["name"]
        yield from _layer_names(layer["config"], f"{group}/")


def convert(
    arrays: Arrays, backbone: str, origin: str | Path = "the weight file", source: store.Source | None = None
) -> Converted:
    """Returns the arrays of a weight file as the variables of a backbone, in float32; ignores and logs others."""
    chosen = get_backbone(backbone)
    match, shapes = best_match(arrays, [chosen]), chosen.shapes
    found = {path: match.layout.to_flax(arrays[name]) for path, name in match.names.items()}
    expected = set(match.names.values())
    surplus = [name for name in arrays if name not in expected and not name.endswith(".num_batches_tracked")]
    if problem := _misfit(arrays, match, surplus):
        raise WeightsError(f"{origin} {problem}; `alljax weights list` shows known files")
    if surplus and not source:
        logging.info(f"{origin}: ignored {plural(len(surplus), 'tensor')} outside of {backbone}: {first_few(surplus)}")
    flat = {path: _finite_float32(found[path], match.names[path], origin) for path in shapes}
    if (layout := source.layout if source else match.layout.name) not in chosen.layouts:
        raise WeightsError(f"{origin} does not name its original layout: convert the original file again")
    return Converted(unflatten_dict(flat, sep="/"), layout)


def convert_file(path: Path, backbone: str, out: Path) -> int:
    """Writes a weight file as .safetensors with alljax's names; returns the number of parameters and statistics."""
    known = store.recognize(path) or store.exported(path)
    converted = convert(read_weights(path), backbone, path, known)
    flat = flatten_dict(converted.variables, sep="/")
    preprocessing = BACKBONES[backbone].layouts[converted.layout].preprocessing
    source = known or replace(store.UNKNOWN, backbone=backbone, layout=converted.layout, preprocessing=preprocessing)
    files.write_bytes(out, safetensors.numpy.save(flat, {"alljax": json.dumps({"source": asdict(source)})}))
    return sum(array.size for array in flat.values())


def best_match(arrays: Mapping[str, np.ndarray], backbones: Iterable[Backbone] = BACKBONES.values()) -> Match:
    """Returns the best match of the tensors in a file; without names if the file fits none of the backbones."""

    def quality(match: Match) -> tuple[int, int, bool, int]:
        shapes = match.backbone.shapes
        fitting = (arrays[name].shape == match.layout.shape_of(shapes[path]) for path, name in match.names.items())
        marked = match.prefix + match.layout.mark in arrays
        return len(match.names), sum(fitting), marked, -len(shapes)

    layouts = [(backbone, layout) for backbone in backbones for layout in (*backbone.layouts.values(), ALLJAX)]
    return max((_match(arrays, *each) for each in layouts), key=quality)


def _match(names: Iterable[str], backbone: Backbone, layout: Layout) -> Match:
    """Finds the prefix under which most names of a layout occur in a file."""
    paths = {layout.name_of(path): path for path in backbone.shapes}
    matches: dict[str, dict[str, str]] = {"": {}}  # prefix → our name → name in the file
    for name in names:
        for start in (0, *(separator.end() for separator in re.finditer("[./]", name))):
            if path := paths.get(layout.normalize(name[start:])):
                matches.setdefault(name[:start], {}).setdefault(path, name)
    prefix = max(matches, key=lambda prefix: len(matches[prefix]))
    return Match(backbone, layout, prefix, matches[prefix])


def _misfit(arrays: Mapping[str, np.ndarray], match: Match, surplus: list[str]) -> str:
    """Returns why a file is not one of the match's backbone, whose variables `surplus` are not; empty if it is."""
    backbone, layout, problems = match.backbone, match.layout, defaultdict[str, list[str]](list)
    for path, shape in backbone.shapes.items():
        name, expected = match.names.get(path, ""), layout.shape_of(shape)
        if name and path == backbone.module.resized:
            expected = (expected[0], *arrays[name].shape[1:2], expected[2])
        if not name:
            problems["missing"].append(f"{layout.name_of(path)} {expected}")
        elif arrays[name].shape != expected:
            problems["of another shape"].append(f"{name} {arrays[name].shape} instead of {expected}")
    for name in surplus:
        inside = layout.normalize(name.removeprefix(match.prefix))
        if name.startswith(match.prefix) and re.fullmatch(layout.network, inside):
            problems["of another variant of the network"].append(name)
    if not problems:
        return ""
    best = best_match(arrays)
    if best.backbone is not backbone and len(best.names) > len(match.names):
        other = best.backbone.name
        return f"looks like {other} ({best.layout.name}), not {backbone.name}; set model.backbone to {other!r}"
    listed = [f"{plural(len(names), 'tensor')} {problem}: {first_few(names)}" for problem, names in problems.items()]
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
