"""Features are kept under all that they depend on."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from alljax.config import default_config, vary
from alljax.models import catalog
from alljax.training import features
from alljax.training.network import Network, open_network, open_networks

DIGESTS = ("a" * 64, "b" * 64)


@pytest.fixture(scope="module")
def network() -> Network:
    return open_network(default_config())


def test_the_key_changes_with_everything(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = {
        "as it is": features.features_key(network, DIGESTS, "one"),
        "images": features.features_key(network, DIGESTS[::-1], "one"),
        "weights": features.features_key(
            dataclasses.replace(network, weights=dataclasses.replace(network.weights, sha256="c" * 64)), DIGESTS, "one"
        ),
        "views": features.features_key(network, DIGESTS, "dihedral"),
    }
    for name, value in {
        "backbone": catalog.get("vgg16"),
        "stage": "stage3",
        "pool": "max",
        "preprocessing": catalog.preprocessing("rescale"),
    }.items():
        keys[name] = features.features_key(dataclasses.replace(network, **{name: value}), DIGESTS, "one")
    size = dataclasses.replace(network.preprocessing, image_size=96)
    keys["size"] = features.features_key(dataclasses.replace(network, preprocessing=size), DIGESTS, "one")
    monkeypatch.setattr(features, "_code_digest", lambda: "a mended bug")
    keys["code"] = features.features_key(network, DIGESTS, "one")
    assert len(set(keys.values())) == len(keys)


def test_stored_features_come_back_and_damaged_ones_do_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALLJAX_CACHE_DIR", str(tmp_path))
    matrix = np.random.default_rng(0).standard_normal((3, 2, 5)).astype(np.float32)
    features.store_features("key", matrix)
    assert np.array_equal(features.load_features("key", 3), matrix)
    assert features.load_features("key", 4) is None
    assert features.load_features("other", 3) is None
    path = tmp_path / "features/key.npy"
    path.write_bytes(path.read_bytes()[:-7])
    assert features.load_features("key", 3) is None


def test_networks_are_shared_only_where_all_is_the_same() -> None:
    config = default_config()
    same, other_rate, stage, preprocessing = open_networks(
        vary(config, change)
        for change in ({}, {"train.learning_rate": 0.1}, {"model.stage": "stage2"}, {"preprocessing.name": "torch"})
    )
    assert other_rate is same
    assert stage.stage == "stage2"
    assert preprocessing.preprocessing.name == "torch"
    assert same.preprocessing.name == "lite"
    assert preprocessing.mismatch()
    assert not same.mismatch()
