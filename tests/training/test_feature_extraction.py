"""Features of images: all stages from one pass, read once, the same on all devices, stored."""

import dataclasses
import shutil
import signal
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from alljax import files, interrupts
from alljax.config import default_config, vary
from alljax.data import synthetic
from alljax.data.dataset import Dataset
from alljax.errors import ConfigError, Stopped
from alljax.models.backbones import get_backbone
from alljax.models.preprocessing import get_preprocessing
from alljax.training import feature_extraction
from alljax.training.feature_extraction import FeatureExtractor, feature_blocks, feature_key, image_reader
from alljax.training.network import Network, open_networks

SIDE, COUNT = 48, 5
CONFIG = vary(default_config(), {"preprocessing.image_size": SIDE, "features.batch_size": 2, "model.stage": "stage1"})
DIGESTS = tuple("abcde")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ALLJAX_CACHE_DIR", str(tmp_path))
    return tmp_path / "features"


@pytest.fixture(scope="module")
def network() -> Network:
    return open_networks([CONFIG])[0]


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return synthetic.read_synthetic(subjects=3, images=COUNT, image_size=SIDE, seed=0)


def compute(networks: list[Network], dataset: Dataset) -> list[np.ndarray]:
    reader = image_reader(dataset, networks[0])
    return [np.concatenate(blocks) for blocks in zip(*feature_blocks(networks, reader, CONFIG), strict=True)]


def extractor(dataset: Dataset, *networks: Network) -> FeatureExtractor:
    return FeatureExtractor(CONFIG, dataset, DIGESTS, networks)


def test_one_pass_gives_all_stages_and_poolings(dataset: Dataset) -> None:
    paths: list[str] = []
    counted = dataclasses.replace(dataset, read=lambda record: paths.append(record.path) or dataset.read(record))
    changes: list[dict[str, Any]] = [
        {"model.stage": "stem"}, {"model.pool": "max"}, {"model.stage": "stem", "model.pool": "flatten"}
    ]  # fmt: skip
    networks = open_networks(vary(CONFIG, change) for change in changes)
    found = compute(networks, counted)
    assert sorted(paths) == sorted(record.path for record in dataset.records), "each image is read once"
    for network, features in zip(networks, found, strict=True):
        assert features.shape == (COUNT, network.feature_count)
        np.testing.assert_allclose(features, compute([network], dataset)[0], rtol=1e-5, atol=1e-5)


def test_all_networks_of_a_pass_are_stored(dataset: Dataset, cache: Path, messages: list[str]) -> None:
    networks = open_networks(vary(CONFIG, {"model.stage": stage}) for stage in ("stem", "stage1"))
    first = extractor(dataset, *networks)
    assert list(first.missing().values()) == [networks]
    features = first.load(networks[0])
    assert isinstance(features, np.memmap), "they stay on disk until they are read"
    assert len(list(cache.glob("*.npy"))) == 2
    again = extractor(dataset, *networks)
    assert not again.missing()
    assert np.array_equal(again.load(networks[0]), features)
    assert any("are stored" in message for message in messages)


def test_features_for_training_are_on_the_device_where_they_fit(
    network: Network, dataset: Dataset, monkeypatch: pytest.MonkeyPatch, messages: list[str]
) -> None:
    found = extractor(dataset, network)
    features = found.load_for_training(CONFIG, network)
    assert isinstance(features, jax.Array)
    monkeypatch.setattr(files, "host_memory", lambda: 3 * features.nbytes)
    assert found.load_for_training(CONFIG, network) is features, "they stay there"
    assert isinstance(found.load_for_training(vary(CONFIG, {"features.memory": "disk"}), network), np.ndarray)
    assert isinstance(extractor(dataset, network).load_for_training(CONFIG, network), np.ndarray)
    assert any("features are read from disk during training" in message for message in messages)
    on_device = vary(CONFIG, {"features.memory": "device"})
    assert isinstance(extractor(dataset, network).load_for_training(on_device, network), jax.Array)


def test_features_that_do_not_fit_on_the_disk_are_refused_before_the_computation(
    network: Network, dataset: Dataset, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: type("Usage", (), {"free": 7}))
    with pytest.raises(ConfigError, match="are free on the disk; ALLJAX_CACHE_DIR sets the folder"):
        extractor(dataset, network).load(network)
    assert not list(cache.glob("*.npy"))


def test_interrupted_computation_leaves_nothing(
    network: Network, dataset: Dataset, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interrupts, "requested", signal.SIGINT)
    with pytest.raises(Stopped, match="stopped by SIGINT"):
        extractor(dataset, network).load(network)
    assert [path.suffix for path in cache.iterdir()] == [".lock"]


def test_key_depends_on_everything(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    changes: dict[str, Any] = {
        "weights": dataclasses.replace(network.weights, sha256="c" * 64),
        "backbone": get_backbone("vgg16"),
        "stage": "stage3",
        "pool": "max",
        "preprocessing": get_preprocessing("rescale"),
    }
    changed = [network, *(dataclasses.replace(network, **{name: value}) for name, value in changes.items())]
    small = dataclasses.replace(network.preprocessing, image_size=96)
    changed.append(dataclasses.replace(network, preprocessing=small))
    keys = [feature_key(each, DIGESTS) for each in changed]
    keys += [feature_key(network, DIGESTS[::-1])]
    monkeypatch.setattr(feature_extraction, "READING_VERSION", 0)
    keys.append(feature_key(network, DIGESTS))
    assert len(set(keys)) == len(keys)


def test_equal_settings_share_a_network_and_it_is_traced_once(monkeypatch: pytest.MonkeyPatch) -> None:
    same, other_rate, stage, preprocessing = open_networks(
        vary(default_config(), change)
        for change in ({}, {"train.learning_rate": 0.1}, {"model.stage": "stage2"}, {"preprocessing.name": "torch"})
    )
    assert other_rate is same
    assert stage.stage == "stage2"
    assert (same.preprocessing.name, preprocessing.preprocessing.name) == ("lite", "torch")
    assert preprocessing.mismatch()
    assert not same.mismatch()
    count = same.feature_count
    monkeypatch.setattr(jax, "eval_shape", None)
    assert same.feature_count == count
