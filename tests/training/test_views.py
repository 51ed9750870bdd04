"""Eight views of each image as features: made right, learned from, and out of the way where nobody asks for them."""

import dataclasses
import io
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from alljax.cli import main
from alljax.config import default_config
from alljax.data import augmentation, synthetic
from alljax.data.dataset import Dataset
from alljax.data.loader import Images
from alljax.data.splits import Split
from alljax.models.head import Head
from alljax.progress import ignore
from alljax.training import feature_extraction, head_training
from alljax.training.network import Network, open_network
from alljax.training.sampling import make_fold_rows

SIDE, VIEWS, WIDTH = 64, 8, 6
QUICKSTART = f"--config={Path(__file__).resolve().parents[2] / 'configs/quickstart.py'}"


def images(network: Network, dataset: Dataset) -> Images:
    return Images(dataset, SIDE, network.preprocessing.interpolation, network.preprocessing.antialias)


@pytest.fixture(scope="module")
def network() -> Network:
    opened = open_network(default_config())
    return dataclasses.replace(opened, preprocessing=dataclasses.replace(opened.preprocessing, image_size=SIDE))


@pytest.fixture(scope="module")
def cells() -> Dataset:
    return synthetic.read_synthetic(subjects=3, images=5, image_size=SIDE, seed=0)


@pytest.fixture(scope="module")
def eight(network: Network, cells: Dataset) -> np.ndarray:
    return feature_extraction.compute_features(network, images(network, cells), 3, ignore, "dihedral")


def test_the_first_view_is_the_image_as_it_is(network: Network, cells: Dataset, eight: np.ndarray) -> None:
    told: list[int] = []
    one = feature_extraction.compute_features(network, images(network, cells), 3, told.append, "none")
    assert one.shape == (5, 1, 1280)
    assert eight.shape == (5, 8, 1280)
    assert one.dtype == eight.dtype == np.float32
    assert np.array_equal(one[:, 0], eight[:, 0])
    assert sum(told) == 5
    gaps = np.abs(eight[:, None] - eight[:, :, None]).max(-1) + np.eye(8)
    assert gaps.min() > 1e-3, "no two views have the same features"


@pytest.mark.parametrize("turned_by", [1, 6])
def test_views_of_a_turned_image_are_the_views_in_another_order(
    network: Network, cells: Dataset, eight: np.ndarray, turned_by: int
) -> None:
    def read(record) -> bytes:
        file = io.BytesIO()
        pixels = np.asarray(Image.open(io.BytesIO(cells.read(record))))
        Image.fromarray(np.array(augmentation.dihedral(pixels, turned_by))).save(file, "PNG")
        return file.getvalue()

    turned = feature_extraction.compute_features(
        network, images(network, dataclasses.replace(cells, read=read)), 3, ignore, "dihedral"
    )
    # Which view of the original the n-th view of the turned one is: told by pixels that are all different.
    tell = np.arange(27).reshape(3, 3, 3)
    names = [np.asarray(augmentation.dihedral(tell, view)).tobytes() for view in range(8)]
    first = augmentation.dihedral(tell, turned_by)
    order = [names.index(np.asarray(augmentation.dihedral(first, view)).tobytes()) for view in range(8)]
    assert sorted(order) == list(range(8))
    assert order != list(range(8))
    np.testing.assert_allclose(turned, eight[:, order], atol=1e-4 * np.abs(eight).max())


def test_each_image_is_read_once(network: Network, cells: Dataset) -> None:
    read: list[str] = []
    counted = dataclasses.replace(cells, read=lambda record: read.append(record.path) or cells.read(record))
    feature_extraction.compute_features(
        dataclasses.replace(network, stage="stem"), images(network, counted), 4, ignore, "dihedral"
    )
    assert sorted(read) == sorted(record.path for record in cells.records)


@pytest.fixture
def config() -> ConfigDict:
    config = default_config()
    config.model.hidden = 8
    config.train.update(epochs=6, batch_size=16, learning_rate=1e-2)
    return config


def run(config: ConfigDict, matrix: np.ndarray, labels: np.ndarray, train: np.ndarray, seeds: int = 2):
    """Trains on some rows and tests on the others; `matrix` is (N, V, D)."""
    test = np.setdiff1d(np.arange(len(labels)), train)
    fold = make_fold_rows(config, labels, 2, [Split(0, 0, train, test)])[0]
    keys = jax.vmap(jax.random.key)(jnp.arange(seeds))
    flat = jnp.asarray(matrix.reshape(-1, matrix.shape[-1]))
    return jax.device_get(head_training.make_train(config, 2)(keys, flat, jnp.asarray(labels), fold))


def drawn(cells: int, views: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    matrix = generator.standard_normal((cells, views, WIDTH)).astype(np.float32)
    return matrix, generator.integers(0, 2, cells).astype(np.int32)


def test_views_that_are_all_alike_change_nothing(config: ConfigDict) -> None:
    matrix, labels = drawn(60, 1)
    one = run(config, matrix, labels, np.arange(40))
    eight = run(config, np.repeat(matrix, VIEWS, 1), labels, np.arange(40))
    assert all(jax.tree.leaves(jax.tree.map(np.array_equal, one, eight)))


def test_an_epoch_shows_each_cell_in_one_view_drawn_at_random(config: ConfigDict) -> None:
    """With a learning rate of zero the loss of an epoch tells what was shown."""
    config.train.update(epochs=200, learning_rate=0.0)
    matrix, labels = drawn(3, VIEWS)
    matrix[2, 1:] += 100  # the cell that is tested: nobody may look at these views of it
    runs = run(config, matrix, labels, np.arange(2))
    for seed in range(2):
        params = jax.tree.map(lambda leaf, seed=seed: leaf[seed], runs.params)
        logits = Head(config.model.hidden, 2).apply({"params": params}, matrix)
        losses = -np.asarray(jax.nn.log_softmax(logits))[np.arange(3), :, labels]
        possible = (losses[0, :, None] + losses[1, None, :]) / 2
        gaps = np.abs(runs.curves.train_loss[:, seed, None, None] - possible)
        assert gaps.min((1, 2)).max() < 1e-5
        shown = [np.unravel_index(each.argmin(), (VIEWS, VIEWS)) for each in gaps]
        assert {int(view) for view, _ in shown} == set(range(VIEWS))
        assert {int(view) for _, view in shown} == set(range(VIEWS))
        assert len(set(shown)) > 40, "drawn apart for each cell"
        np.testing.assert_allclose(runs.curves.val_loss[:, seed], losses[2, 0], rtol=1e-4)
        np.testing.assert_allclose(runs.probabilities[seed, 0], jax.nn.softmax(logits[2, 0]), rtol=1e-4)


def test_fewer_epochs_are_the_first_of_many_and_other_seeds_draw_otherwise(config: ConfigDict) -> None:
    matrix, labels = drawn(60, VIEWS)
    long = run(config, matrix, labels, np.arange(40))
    config.train.epochs = 2
    short = run(config, matrix, labels, np.arange(40))
    assert np.array_equal(short.curves.train_loss, long.curves.train_loss[:2])
    assert np.array_equal(short.curves.val_loss, long.curves.val_loss[:2])
    assert not np.array_equal(long.curves.train_loss[:, 0], long.curves.train_loss[:, 1])


def test_a_study_on_eight_views(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Study, features and predict, by their commands; predict looks at one view."""
    monkeypatch.setenv("ALLJAX_CACHE_DIR", str(tmp_path / "cache"))
    settings = [
        QUICKSTART, "--config.features.augment=dihedral", "--config.data.synthetic.images=24",
        "--config.data.synthetic.subjects=8", "--config.split.folds=2", "--config.preprocessing.image_size=48",
        "--config.train.epochs=2", "--config.study.seeds=1", "--config.evaluation.resamples=100",
    ]  # fmt: skip
    run, npz, csv = tmp_path / "run", tmp_path / "features.npz", tmp_path / "predictions.csv"
    assert main(["train", *settings, f"--workdir={run}"]) == 0
    assert (run / "trials/efficientnet_lite0-adam/metrics.json").is_file()
    assert main(["features", *settings, f"--out={npz}"]) == 0
    stored = np.load(npz)
    assert stored["views"].shape == (24, 8, 1280)
    assert np.array_equal(stored["features"], stored["views"][:, 0])

    def kept() -> list[tuple[int, ...]]:
        return sorted(np.load(file).shape for file in (tmp_path / "cache/features").glob("*.npy"))

    assert kept() == [(24, 8, 1280)], "the second command found the features of the first"
    image = tmp_path / "cell.bmp"
    dataset = synthetic.read_synthetic(subjects=8, images=24, image_size=224, seed=0)
    image.write_bytes(dataset.read(dataset.records[0]))
    assert main(["predict", f"--workdir={run}", str(image), f"--out={csv}"]) == 0
    assert kept() == [(1, 1, 1280), (24, 8, 1280)]
