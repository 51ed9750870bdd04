"""Trained networks as weight files, for `alljax export` and for work folders as ``weights.path``."""

import functools
import hashlib
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import safetensors.numpy
from flax.traverse_util import flatten_dict
from ml_collections import ConfigDict

from alljax import config as configs
from alljax import files
from alljax.errors import ConfigError, WeightsError
from alljax.study.ensemble import Ensemble, open_ensemble
from alljax.weights import store


def serialize(opened: Ensemble, tuned_only: bool = False) -> bytes:
    """Returns a .safetensors of a trial's backbone and head, those of its first fold and seed; equal for equal trials.

    With `tuned_only` a backbone with the original weights is a `WeightsError`.  Names are ``params/…``,
    ``batch_stats/…``, ``head/…``.  The header has JSON under ``alljax``: ``version``, ``classes``, ``stage`` and
    ``pool`` of the features, ``preprocessing`` of images, and ``source``, a `Source`.
    """
    network, data = opened.network, opened.study.metrics["dataset"]
    member = opened.members[0] if opened.members and opened.sources == (network,) else None
    if not network or not member or member.heads is None or member.selection:
        raise ConfigError(f"{opened.trial} is no backbone with a head, which can be exported; choose another --trial")
    head: Any = jax.tree.map(lambda leaf: leaf[0], member.heads)
    tree = {**network.variables, "head": head}
    arrays = flatten_dict(tree, sep="/") | flatten_dict(member.backbone, sep="/")  # later stages are not in the trial
    scaling, source = asdict(network.preprocessing), network.weights.source or store.UNKNOWN
    source = replace(source, backbone=network.backbone.name, layout=network.layout)
    if not jax.tree.all(jax.tree.map(np.array_equal, member.backbone["params"], network.used("params"))):
        sources = data["source"].split(", ")
        trained_on = [*(Path(name).name.lower() for name in sources), *({data["name"]} & {"cnmc"})]
        name = f"{source.name}, fine-tuned on {trained_on[-1]} in {opened.study.folder.resolve().name}"
        expected = {key: scaling[key] for key in ("name", "image_size", "interpolation", "antialias")}
        source = replace(source, name=name, trained_on=trained_on, preprocessing=expected)
    elif tuned_only:
        raise WeightsError(f"{opened.study.folder}: {opened.trial}, its best trial, has no fine-tuned backbone")
    about = {"version": opened.study.environment["alljax"], "classes": opened.study.classes, "source": asdict(source)}
    about |= {"stage": network.stage, "pool": network.pool, "preprocessing": scaling}
    metadata = {"alljax": json.dumps(about)}  # one entry, since several have no defined order
    return safetensors.numpy.save({path: np.asarray(leaf) for path, leaf in arrays.items()}, metadata)


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
