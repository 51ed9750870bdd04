"""Each augmentation against a reference: NumPy, SciPy, scikit-image, or its own definition."""

import functools
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
import skimage.color
from ml_collections import FrozenConfigDict

from alljax.config import default_config
from alljax.data import augmentation, synthetic

SIDE = 48
EVERYTHING = {
    "flips": True, "quarter_turns": True, "rotation": 180.0, "shift": 0.1, "zoom": 0.3, "crop": 0.2, "brightness": 0.3,
    "contrast": 0.3, "stain": 0.1, "blur": 1.5,
}  # fmt: skip
COLORS = ("brightness", "contrast", "stain", "blur")
MOVED = {name: EVERYTHING[name] for name in ("shift", "zoom", "crop")}
ALONE = [MOVED, *({name: value} for name, value in EVERYTHING.items() if name not in MOVED)]


@pytest.fixture(scope="module")
def cells() -> jax.Array:
    """Six generated cells, uint8, on exact black."""
    return jnp.stack([synthetic.render_cell(3, name, 1, 1, SIDE) for name in ("1", "2", "3", "H1", "H2", "H3")])


@pytest.fixture(scope="module")
def noise() -> jax.Array:
    return jnp.asarray(np.random.default_rng(0).uniform(1, 255, (SIDE, SIDE, 3)).astype(np.float32))


def configured(settings: dict) -> FrozenConfigDict:
    return FrozenConfigDict({**default_config().augment, **settings})


compiled = functools.cache(augmentation.make_augment)
affine = jax.jit(augmentation.affine)


def augmented(settings: dict, images: jax.Array, seed: int = 0) -> jax.Array:
    keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(seed), jnp.arange(len(images)))
    return compiled(configured(settings))(keys, images)


@pytest.mark.parametrize("settings", [*ALONE, EVERYTHING], ids=lambda settings: "+".join(settings))
def test_each_changes_images_within_range_by_key(cells: jax.Array, settings: dict) -> None:
    first, again, other = (np.asarray(augmented(settings, cells, seed)) for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert not np.array_equal(first, cells)
    assert 0 <= first.min() < first.max() <= 255
    assert len(np.unique(many(settings, cells[0], 6), axis=0)) > 1, "images share a key"


def test_disabling_one_does_not_change_the_others(cells: jax.Array) -> None:
    dimmed = augmented({"brightness": 0.3}, cells)
    turned = augmented({"quarter_turns": True, "brightness": 0.3}, cells)
    assert not np.array_equal(dimmed, turned)
    np.testing.assert_allclose(jnp.sum(dimmed, (1, 2, 3)), jnp.sum(turned, (1, 2, 3)), rtol=1e-5)


def test_black_stays_exactly_black(cells: jax.Array) -> None:
    background = np.asarray(cells).max(-1) == 0
    assert 0.5 < background.mean() < 0.95
    for name in COLORS:
        images = augmented({name: EVERYTHING[name]}, cells)
        assert not np.asarray(images)[background].any(), name
    assert not np.asarray(augmented(EVERYTHING, jnp.zeros_like(cells))).any()


def many(settings: dict, image: np.ndarray, count: int) -> np.ndarray:
    """Returns `count` augmentations of an image, six per call: the shape that is compiled already."""
    batch = jnp.stack([jnp.asarray(image, jnp.uint8)] * 6)
    return np.concatenate([augmented(settings, batch, seed) for seed in range(-(-count // 6))])[:count]


def test_flips_and_quarter_turns_are_exact_and_equally_likely(noise: jax.Array) -> None:
    image = np.asarray(noise).astype(np.uint8)
    mirrored = [np.rot90(each, turns) for each in (image, image[:, ::-1]) for turns in range(4)]
    views = [view.astype(np.float32).tobytes() for view in mirrored]
    counts = Counter(each.tobytes() for each in many({"flips": True, "quarter_turns": True}, image, 600))
    assert set(counts) == set(views)
    assert min(counts.values()) > 40  # 75 expected; four standard deviations are 32
    assert {each.tobytes() for each in many({"flips": True}, image, 60)} == {views[view] for view in (0, 2, 4, 6)}
    assert {each.tobytes() for each in many({"quarter_turns": True}, image, 60)} == {*views[:4]}


@pytest.mark.parametrize("settings", [{"crop": 0.4}, {"rotation": 180.0, "shift": 0.1, "zoom": 0.3, "crop": 0.1}])
def test_geometry_against_scipy(noise: jax.Array, settings: dict) -> None:
    matrices, offsets = draw(settings)
    for matrix, offset in zip(matrices[:8], offsets[:8], strict=True):
        ours = affine(noise, matrix, offset)
        center = (SIDE - 1) / 2
        whole = np.asarray(matrix, np.float64)
        start = center - whole @ [center, center] + np.asarray(offset) * SIDE
        for channel in range(3):
            theirs = scipy.ndimage.affine_transform(noise[..., channel], whole, start, order=1, mode="grid-constant")
            np.testing.assert_allclose(ours[..., channel], theirs, atol=0.05)


@functools.partial(jax.jit, static_argnums=1)
def draw_500(keys: jax.Array, settings: FrozenConfigDict) -> tuple[jax.Array, jax.Array]:
    return jax.vmap(lambda key: augmentation.draw_affine(key, settings))(keys)


def draw(settings: dict) -> tuple[np.ndarray, np.ndarray]:
    """500 draws, on the host."""
    return jax.device_get(draw_500(jax.random.split(jax.random.key(0), 500), configured(settings)))


def test_ranges_of_draw_affine() -> None:
    """Each setting is the maximum that occurs, and a crop is inside the image."""
    _, offset = draw({"shift": 0.2})
    assert 0.19 < np.abs(offset).max() <= 0.2
    factors = 1 / draw({"zoom": 0.5})[0][:, 0, 0]
    assert 1 / 1.5 <= factors.min() < 0.7
    assert 1.45 < factors.max() <= 1.5001
    matrix, offset = draw({"crop": 0.4})
    kept = matrix[:, 0, 0]
    assert 0.6 <= kept.min() < 0.61
    assert (np.abs(offset) + kept[:, None] / 2 <= 0.5 + 1e-6).all()
    matrix, _ = draw({"rotation": 30.0})
    assert 29 < np.abs(np.rad2deg(np.arctan2(matrix[:, 0, 1], matrix[:, 0, 0]))).max() <= 30.001


def test_stains_equal_scikit_image(noise: jax.Array) -> None:
    reference = skimage.color.rgb2hed(np.asarray(noise, np.float64) / 255)
    ours = -np.log(np.asarray(noise) / 255) @ augmentation.HED_FROM_RGB
    np.testing.assert_allclose(np.maximum(ours, 0) / -np.log(1e-6), reference, atol=1e-5)


def test_brightness_and_contrast(cells: jax.Array) -> None:
    dark = np.asarray(cells[0]) // 2  # not clipped at 255
    factors = many({"brightness": 0.3}, dark, 240).mean((1, 2, 3)) / dark.mean()
    assert 0.7 <= factors.min() < 0.72
    assert 1.28 < factors.max() <= 1.3001
    assert factors.mean() == pytest.approx(1, abs=0.05)
    image = cells[0].astype(jnp.float32)
    inside = np.asarray(cells[0]).min(-1) > 0
    changed, before = np.asarray(augmentation.change_contrast(image, 1.3))[inside], np.asarray(image)[inside]
    np.testing.assert_allclose(np.log(changed).std(0) / np.log(before).std(0), 1.3, rtol=1e-3)
    np.testing.assert_allclose(changed.mean(0), before.mean(0), rtol=0.05)


@pytest.mark.parametrize("sigma", [0.0, 0.7, 2.0])
def test_blur_equals_scipy_inside_a_cell(noise: jax.Array, sigma: float) -> None:
    image = 150 + noise / 10
    ours = np.asarray(augmentation.gaussian_blur(image, sigma))
    theirs = scipy.ndimage.gaussian_filter(np.asarray(image, np.float64), (sigma, sigma, 0), truncate=8)
    inside = slice(12, -12)  # SciPy reflects at the border
    np.testing.assert_allclose(ours[inside, inside], theirs[inside, inside], rtol=1e-5)
