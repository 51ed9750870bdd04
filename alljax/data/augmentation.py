"""Random augmentation of images on the device, functions of a key and an image, float32 (S, S, 3) in 0 … 255.

The black background of segmented cells stays exactly black: changes of color multiply, which also keeps the dim rim of
a cell dim, geometric changes fill with black, and the blur mixes pixels of the cell only.
"""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.ndimage import map_coordinates
from ml_collections import ConfigDict

# Rows: optical densities of red, green and blue that hematoxylin, eosin and DAB give.  A. C. Ruifrok and D. A.
# Johnston, "Quantification of histochemical staining by color deconvolution", Analytical and Quantitative Cytology and
# Histology 23, 291-299, 2001; to two digits as in scikit-image's `rgb_from_hed`.
RGB_FROM_HED = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])
HED_FROM_RGB = np.linalg.inv(RGB_FROM_HED)

Augment = Callable[[jax.Array, jax.Array], jax.Array]
"""Keys (B,) and images (B, S, S, 3), uint8 or float32 in 0 … 255 → augmented images, float32 in that range."""


def make_augment(settings: ConfigDict) -> Augment:
    """Returns the compiled augmentation by ``config.augment``, in which each setting has its own random numbers."""
    return jax.jit(jax.vmap(lambda key, image: _augment_one(settings, key, image.astype(jnp.float32))))


def _augment_one(settings: ConfigDict, key: jax.Array, image: jax.Array) -> jax.Array:
    flips, turns, geometry, dye, light, contrast, blur = jax.random.split(key, 7)
    if settings.flips:
        rows, columns = jax.random.bernoulli(flips, shape=(2,))
        image = jnp.where(rows, image[::-1], image)
        image = jnp.where(columns, image[:, ::-1], image)
    if settings.quarter_turns:
        versions = [functools.partial(jnp.rot90, k=quarters) for quarters in range(4)]
        image = jax.lax.switch(jax.random.randint(turns, (), 0, 4), versions, image)
    if settings.rotation or settings.shift or settings.zoom or settings.crop:
        matrix, offset = draw_affine(geometry, settings)
        image = affine(image, matrix, offset)
    if settings.stain:
        image = jitter_stains(dye, image, settings.stain)
    if settings.brightness:
        image = image * jax.random.uniform(light, minval=1 - settings.brightness, maxval=1 + settings.brightness)
    if settings.contrast:
        factor = jax.random.uniform(contrast, minval=1 - settings.contrast, maxval=1 + settings.contrast)
        image = change_contrast(image, factor)
    if settings.blur:
        image = gaussian_blur(image, jax.random.uniform(blur, maxval=settings.blur))
    return jnp.clip(image, 0.0, 255.0)


def draw_affine(key: jax.Array, settings: ConfigDict) -> tuple[jax.Array, jax.Array]:
    """Samples a rotation and zoom about the center, then a shift, then a crop, as matrix and offset of `affine`.

    They map a position in the result to that in the image: rows and columns from the center in fractions of the side.
    """
    drawn = jax.random.uniform(key, (7,), minval=-1.0)
    angle = jnp.deg2rad(drawn[0] * settings.rotation)
    zoom = jnp.exp(drawn[1] * math.log1p(settings.zoom))
    shift = drawn[2:4] * settings.shift
    kept = 1 - jnp.abs(drawn[4]) * settings.crop
    window = drawn[5:] * (1 - kept) / 2  # center of the crop
    cosine, sine = jnp.cos(angle), jnp.sin(angle)
    back = jnp.array([[cosine, sine], [-sine, cosine]]) / zoom
    return back * kept, back @ (window - shift)


def affine(image: jax.Array, matrix: jax.Array, offset: jax.Array) -> jax.Array:
    """Gives position p the value of the image at ``matrix @ p + offset``, bilinearly; black outside the image."""
    side = image.shape[0]
    line = jnp.arange(side, dtype=jnp.float32) - (side - 1) / 2  # pixels, so that quarter turns are exact
    source = [matrix[axis, 0] * line[:, None] + matrix[axis, 1] * line[None, :] for axis in (0, 1)]
    positions = [source[axis] + (offset[axis] * side + (side - 1) / 2) for axis in (0, 1)]
    return jax.vmap(lambda channel: map_coordinates(channel, positions, order=1), 2, 2)(image)


def change_contrast(image: jax.Array, factor: jax.Array | float) -> jax.Array:
    """Scales the contrast of each color by a power, which keeps the dim rim of a cell and the background dark."""
    level = _level(image)
    return level * (image / level) ** factor


def gaussian_blur(image: jax.Array, sigma: jax.Array | float) -> jax.Array:
    """Blurs a cell by `sigma` pixels, as if a blurred photograph had been segmented: black is not mixed with it.

    A pixel becomes the weighted mean of those of the cell (normalized convolution, doi 10.1109/CVPR.1993.341081) times
    its membership in the cell, which is 1 from half of the cell's intensity and proportional below.
    """
    line = jnp.arange(image.shape[0], dtype=jnp.float32)
    steps = (line[:, None] - line[None, :]) / jnp.maximum(sigma, 1e-2)
    weights = jnp.exp(-0.5 * steps**2)
    gray = jnp.mean(image, -1, keepdims=True)
    cell = jnp.clip(2 * gray / _level(gray), 0.0, 1.0)
    layers = jnp.concatenate([image, cell], -1)
    layers = jnp.einsum("ij,jkc,lk->ilc", weights, layers, weights, precision="highest")
    return layers[..., :3] * (cell / jnp.maximum(layers[..., 3:], 1e-6))


def _level(image: jax.Array) -> jax.Array:
    """Returns the mean intensity, weighted by itself so that black has no influence: (S, S, C) → (1, 1, C)."""
    level = jnp.sum(image**2, (0, 1), keepdims=True) / jnp.maximum(jnp.sum(image, (0, 1), keepdims=True), 1.0)
    return jnp.maximum(level, 1.0)  # for a black image


def jitter_stains(key: jax.Array, image: jax.Array, strength: float) -> jax.Array:
    """Changes the amount h of each stain to ``a·h + b`` with a from 1 ± strength and b from ± strength.

    Optical densities ``-ln(image / 255)`` are sums over stains (`RGB_FROM_HED`).  Tellez et al., "Whole-slide mitosis
    detection in H&E breast histology using PHH3 as a reference to train distilled stain-invariant convolutional
    networks", 2018, doi 10.1109/TMI.2018.2820199.  Blood smears have other stains, but these three span all colors.
    """
    scale, offset = jax.random.uniform(key, (2, 1, 1, 3), minval=-strength, maxval=strength)
    density = -jnp.log(jnp.maximum(image, 1.0) / 255)
    stains = jnp.matmul(density, jnp.asarray(HED_FROM_RGB, jnp.float32), precision="highest")
    changed = jnp.matmul(stains * scale + offset, jnp.asarray(RGB_FROM_HED, jnp.float32), precision="highest")
    return image * jnp.exp(-changed)  # so that black, whose density is infinite, stays black
