"""Trained trials as files, for `alljax export` and for work folders as ``weights.path``."""

import functools
import hashlib
import json
import logging
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy
from flax.traverse_util import flatten_dict
from jax import lax
from ml_collections import ConfigDict

from alljax import config as configs
from alljax import files
from alljax.data.images import PRECISION, resize_weights
from alljax.errors import ConfigError, WeightsError
from alljax.models.head import POOLINGS, make_head
from alljax.models.layers import PORTABLE
from alljax.models.preprocessing import Preprocessing
from alljax.study.ensemble import Ensemble, open_ensemble
from alljax.training.feature_extraction import sequence_of
from alljax.weights import conversion, store
from alljax.weights.store import Source


def check(opened: Ensemble, problem: str = "") -> None:
    """Raises `ConfigError` if the classifiers of a trial are not heads on a backbone, or for another problem."""
    if opened.combined:
        problem = "it combines other trials, which can be exported"
    elif opened.sources != (opened.network,):
        problem = f"features.extractor={','.join(opened.config.features.extractor)} is not a backbone alone"
    elif any(member.estimators for member in opened.members):
        problem = f"classifier.name={opened.config.classifier.name} is one of scikit-learn"
    if problem:
        raise ConfigError(f"{opened.trial} cannot be exported: {problem}; choose another --trial")


def make_function(opened: Ensemble) -> Callable[[jax.Array], jax.Array]:
    """Returns a function from uint8 images (N, H, W, 3) of any size to the probabilities float32 (N, C) of a trial.

    They are the means over folds and seeds, calibrated where the trial has a temperature; parameters are constants.
    """
    network: Any = opened.network
    masked = network and network.preprocessing.cell == "masked"
    check(opened, "preprocessing.cell=masked is for controls" if masked else "")
    temperature, members = opened.result["temperature"] or 1.0, jax.device_get(opened.members)
    head = make_head(opened.config, len(opened.study.classes), sequence_of(opened.config, opened.sources))

    def classify(images: jax.Array) -> jax.Array:
        pixels = network.preprocessing(resize(images, network.preprocessing))
        features, logits = pixels, list[Any]()
        for number, member in enumerate(members):
            if number == 0 or not opened.frozen:  # members of a frozen trial have the same backbone
                stages = network.backbone.module.apply(member.backbone, pixels, last=network.stage)
                features = POOLINGS[network.pool](stages[network.stage])
            selected: Any = member.selection.apply(features) if member.selection else features
            for row in range(len(jax.tree.leaves(member.heads)[0])):  # jax2onnx does not convert `jax.vmap` of layers
                params: Any = jax.tree.map(lambda leaf, row=row: leaf[row], member.heads)
                logits.append(head.apply({"params": params}, selected))
        return jax.nn.softmax(jnp.stack(logits) / temperature).mean(0)

    def traced(images: jax.Array) -> jax.Array:
        token = PORTABLE.set(True)
        try:
            return classify(images)
        finally:
            PORTABLE.reset(token)

    return traced


def resize(images: jax.Array, settings: Preprocessing) -> jax.Array:
    """Resizes (N, H, W, 3) to (N, S, S, 3), whole numbers 0 … 255: the bits of `alljax.data.images.resize`."""
    kind = settings.image_size, settings.interpolation, settings.antialias
    rows, columns = (resize_weights(length, *kind) for length in images.shape[1:3])
    if rows[1].dtype == np.int32:
        return _rounded(_weigh(_rounded(_weigh(images, 2, *columns)), 1, *rows))
    return jnp.rint(_weigh(_weigh(images, 1, *rows), 2, *columns))


def _weigh(images: jax.Array, axis: int, places: np.ndarray, weights: np.ndarray) -> jax.Array:
    """Returns the sums of K input pixels times their weights along an axis; both are (K, S)."""
    shape = [len(weights[0]) if other == axis else 1 for other in range(4)]
    images = images.astype(weights.dtype)
    pairs = zip(places, weights, strict=True)
    return sum(jnp.take(images, place, axis=axis) * weight.reshape(shape) for place, weight in pairs)


def _rounded(total: jax.Array) -> jax.Array:
    """Rounds sums of weights in units of 2 ** -PRECISION to 0 … 255, as Pillow does."""
    positive = jnp.maximum(total + 2 ** (PRECISION - 1), 0)
    return jnp.minimum(lax.div(positive, jnp.full_like(positive, 2**PRECISION)), 255)


def to_onnx(opened: Ensemble) -> bytes:
    """Returns `make_function` as an ONNX model of any number of images; its metadata ``alljax`` are `_describe`."""
    function, images = make_function(opened), _images(opened, "N")
    try:
        import jax2onnx
        import onnxruntime
        from onnx import helper
    except ImportError as error:
        raise ConfigError(f"ONNX files need other packages ({error}): pip install 'alljax[onnx]'") from error
    logging.getLogger("onnx_ir").setLevel(logging.ERROR)  # it warns about every intermediate value without a type
    names = {"input_names": ["images"], "output_names": ["probabilities"]}
    try:
        model = jax2onnx.to_onnx(function, [images], return_mode="proto", **names)
        helper.set_model_props(model, {"alljax": json.dumps(_describe(opened))})
        content = bytes(model.SerializeToString())
    except Exception as error:  # an operation that jax2onnx lacks, a file above 2 GB, …
        reason = str(error).partition("\n")[0]
        raise ConfigError(f"{opened.trial}: jax2onnx cannot convert it ({reason}); use --format=stablehlo") from error
    example = np.random.default_rng(0).integers(0, 256, (2, *images.shape[1:]), np.uint8)
    (found,) = onnxruntime.InferenceSession(content).run(None, {"images": example})
    # jax2onnx ignores arguments that it does not know.
    if not np.allclose(found, jax.jit(function)(example), atol=1e-4):
        raise ConfigError(f"{opened.trial}: jax2onnx converts it to another function; use --format=stablehlo")
    return content


def to_stablehlo(opened: Ensemble) -> bytes:
    """Returns `make_function` as `jax.export` serializes it, for any number of images on CPU, GPU and TPU."""
    function, (count,) = jax.jit(make_function(opened)), jax.export.symbolic_shape("N")
    exported = jax.export.export(function, platforms=("cpu", "cuda", "tpu"))(_images(opened, count))
    return bytes(exported.serialize())


def _images(opened: Ensemble, count: Any) -> jax.ShapeDtypeStruct:
    """Returns the shape of `count` images of the size of the study's."""
    width, height = opened.study.metrics["dataset"]["image_size"]
    return jax.ShapeDtypeStruct((count, height, width, 3), np.uint8)


def _describe(opened: Ensemble) -> dict[str, Any]:
    """Returns ``version``, ``classes``, ``stage`` and ``pool`` of the features, and ``preprocessing`` of images."""
    network: Any = opened.network
    about = {"version": opened.study.environment["alljax"], "classes": opened.study.classes}
    return about | {"stage": network.stage, "pool": network.pool, "preprocessing": asdict(network.preprocessing)}


def serialize(opened: Ensemble, tuned_only: bool = False) -> bytes:
    """Returns a .safetensors of a trial's backbone and head, those of its first fold and seed; equal for equal trials.

    With `tuned_only` a backbone with the original weights is a `WeightsError`.  Names and axes are those of the
    backbone's PyTorch files, and of `torch.nn.Linear` in the head (``head.dense.weight``); where there is no such
    layout, ``params/…``, ``batch_stats/…``, ``head/…``.  The header has JSON under ``alljax``, that of `_describe` and
    ``source``, a `Source`.
    """
    selected = ",".join(opened.config.features.select)
    check(opened, f"features.select={selected} is between backbone and head" if selected else "")
    network: Any = opened.network
    member, source = opened.members[0], network.weights.source or store.UNKNOWN
    source = replace(source, backbone=network.backbone.name, layout=network.layout)
    if not jax.tree.all(jax.tree.map(np.array_equal, member.backbone["params"], network.used("params"))):
        source = _fine_tuned(opened, source)
    elif tuned_only:
        raise WeightsError(f"{opened.study.folder}: {opened.trial}, its best trial, has no fine-tuned backbone")
    layouts = network.backbone.layouts
    candidates = layouts[network.layout], *layouts.values(), conversion.ALLJAX
    layout = next((one for one in candidates if one.format == "pytorch"), conversion.ALLJAX)
    # Stages after that of the features are not in the trial.
    tree = flatten_dict(network.variables, sep="/") | flatten_dict(member.backbone, sep="/")
    arrays = {layout.name_of(path): leaf for path, leaf in tree.items()}
    for path, leaves in flatten_dict(member.heads, sep="/").items():
        name = layout.name_of(f"params/head/{path}").replace("/", ".") if layout.rules else f"head/{path}"
        arrays[name] = leaves[0]
    # One entry, since several have no defined order.
    metadata = {"alljax": json.dumps(_describe(opened) | {"source": asdict(source)})}
    ordered = {name: np.ascontiguousarray(layout.from_flax(np.asarray(leaf))) for name, leaf in arrays.items()}
    return safetensors.numpy.save(ordered, metadata)


def _fine_tuned(opened: Ensemble, source: Source) -> Source:
    """Returns the origin of a fine-tuned backbone, with the data sets that it saw, from that of its first weights."""
    network: Any = opened.network
    data, scaling = opened.study.metrics["dataset"], asdict(network.preprocessing)
    trained_on = [*(Path(name).name.lower() for name in data["source"].split(", ")), *({data["name"]} & {"cnmc"})]
    name = f"{source.name}, fine-tuned on {trained_on[-1]} in {opened.study.folder.resolve().name}"
    expected = {key: scaling[key] for key in ("name", "image_size", "interpolation", "antialias")}
    return replace(source, name=name, trained_on=trained_on, preprocessing=expected)


FORMATS = {"onnx": to_onnx, "stablehlo": to_stablehlo, "safetensors": serialize}
"""What `alljax export` writes, by suffix."""


def with_weight_file(config: ConfigDict) -> ConfigDict:
    """Returns a config whose ``weights.path``, if it is a work folder, is the exported best trial, in the cache."""
    folder = Path(config.weights.path or "-").expanduser()
    if config.weights.name == store.RANDOM.name or not (folder / "trials.json").is_file():
        return config
    return configs.vary(config, {"weights.path": str(_export_to_cache(folder.resolve()))})


@functools.cache
def _export_to_cache(folder: Path) -> Path:
    content = serialize(open_ensemble(folder), tuned_only=True)
    path = files.cache_dir() / "exports" / f"{hashlib.sha256(content).hexdigest()[:16]}.safetensors"
    files.write_bytes(path, content)
    return path
