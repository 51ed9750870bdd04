"""Features are kept under all that they depend on."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from alljax.config import default_config, vary
from alljax.data import synthetic
from alljax.data.loader import Images
from alljax.models.backbones import get_backbone
from alljax.models.preprocessing import get_preprocessing
from alljax.progress import ignore
from alljax.training import feature_extraction
from alljax.training.network import Network, open_network, open_networks

DIGESTS = ("a" * 64, "b" * 64)


@pytest.fixture(scope="module")
def network() -> Network:
    return open_network(default_config())


def test_the_key_changes_with_everything(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = {
        "as it is": feature_extraction.features_key(network, DIGESTS, "none"),
        "images": feature_extraction.features_key(network, DIGESTS[::-1], "none"),
        "weights": feature_extraction.features_key(
            dataclasses.replace(network, weights=dataclasses.replace(network.weights, sha256="c" * 64)), DIGESTS, "none"
        ),
        "views": feature_extraction.features_key(network, DIGESTS, "dihedral"),
    }
    for name, value in {
        "backbone": get_backbone("vgg16"),
        "stage": "stage3",
        "pool": "max",
        "preprocessing": get_preprocessing("rescale"),
    }.items():
        keys[name] = feature_extraction.features_key(dataclasses.replace(network, **{name: value}), DIGESTS, "none")
    size = dataclasses.replace(network.preprocessing, image_size=96)
    keys["size"] = feature_extraction.features_key(dataclasses.replace(network, preprocessing=size), DIGESTS, "none")
    monkeypatch.setattr(feature_extraction, "READING_VERSION", 0)
    keys["code"] = feature_extraction.features_key(network, DIGESTS, "none")
    assert len(set(keys.values())) == len(keys)


def test_stored_features_come_back_and_damaged_ones_do_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALLJAX_CACHE_DIR", str(tmp_path))
    matrix = np.random.default_rng(0).standard_normal((3, 2, 5)).astype(np.float32)
    other = np.arange(6, dtype=np.float32).reshape(3, 1, 2)
    blocks = ([matrix[rows], other[rows]] for rows in (slice(0, 2), slice(2, 3)))
    feature_extraction.store_features(["key", "second"], [matrix.shape, other.shape], blocks)
    kept = feature_extraction.load_features("key", 3)
    assert isinstance(kept, np.memmap), "they stay on disk until they are read"
    assert np.array_equal(kept, matrix)
    assert np.array_equal(feature_extraction.load_features("second", 3), other)
    del kept
    assert feature_extraction.load_features("key", 4) is None
    assert feature_extraction.load_features("other", 3) is None
    path = tmp_path / "features/key.npy"
    path.write_bytes(path.read_bytes()[:-7])
    assert feature_extraction.load_features("key", 3) is None


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


def test_nothing_is_kept_of_features_that_were_not_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALLJAX_CACHE_DIR", str(tmp_path))

    def blocks():
        yield [np.zeros((2, 1, 5), np.float32)]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        feature_extraction.store_features(["key"], [(3, 1, 5)], blocks())
    assert not list((tmp_path / "features").iterdir())


def test_one_pass_gives_the_features_of_all_stages_and_poolings() -> None:
    cells = synthetic.read_synthetic(subjects=3, images=5, image_size=64, seed=0)
    config = vary(default_config(), {"preprocessing.image_size": 64})
    asked = [
        {"model.stage": "stage2"},
        {"model.stage": "stage4", "model.pool": "max"},
        {"model.stage": "stage2", "model.pool": "flatten"},
    ]
    networks = open_networks(vary(config, change) for change in asked)
    wanted = networks[0].preprocessing
    source = Images(cells, 64, wanted.interpolation, wanted.antialias)
    together = [
        np.concatenate(blocks)
        for blocks in zip(*feature_extraction.feature_blocks(networks, source, 2, "none"), strict=True)
    ]
    for network, ours in zip(networks, together, strict=True):
        alone = feature_extraction.compute_features(network, source, 2, ignore, "none")
        assert ours.shape == alone.shape == (5, 1, network.feature_count)
        np.testing.assert_allclose(ours, alone, atol=1e-5)
