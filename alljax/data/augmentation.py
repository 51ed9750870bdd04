"""Keyed augmentation of images on the device.

Every augmentation is a pure function of a key and one image, float32 (S, S, 3) with values 0 … 255;
`make_augment` composes them for a batch.  Segmented cells stand on pure black, and there the
background stays exactly black: what acts on colors multiplies, so that black stays black and the
dim rim of a cell stays dim; what moves the image fills with black; the blur mixes a cell's pixels
with one another only.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax.scipy.ndimage import map_coordinates

from alljax.data import stain
from alljax.errors import ConfigError

VIEWS = 8
"""How many views `dihedral` knows."""


@dataclass(frozen=True)
class Augmentation:
    """How strongly images are changed; each default leaves them as they are.

    Attributes:
        flips: mirror left to right and top to bottom, each for half of the images.
        quarter_turns: turn by 0, 90, 180 or 270 degrees, each for a quarter of the images.
        rotation: largest turn to either side, in degrees; 180 for any.
        shift: largest displacement along each axis, as a fraction of the side.
        zoom: largest enlargement or reduction: the factor lies between 1 / (1 + zoom) and 1 + zoom.
        crop: largest fraction of the side that is cut away; the square that is left lies anywhere in
            the image and is enlarged to its size.
        brightness: largest relative change of all intensities.
        contrast: largest relative change of the contrast (`change_contrast`).
        stain: largest relative change of the amount of each stain, and largest amount added to it
            or taken away, in optical density to base e (`stain.jitter`).
        blur: largest standard deviation of the Gaussian, in pixels.
        cutout: side of the square that is blackened, as a fraction of the image's side.
        mixup: alpha of the Beta(alpha, alpha) distribution of the share that an image keeps.

    Raises:
        ConfigError: a strength that is negative, or a fraction that leaves nothing of the image.
    """

    flips: bool = False
    quarter_turns: bool = False
    rotation: float = 0.0
    shift: float = 0.0
    zoom: float = 0.0
    crop: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    stain: float = 0.0
    blur: float = 0.0
    cutout: float = 0.0
    mixup: float = 0.0

    def __post_init__(self) -> None:
        for name in ("shift", "crop", "brightness", "contrast", "stain", "cutout"):
            if not 0 <= (value := getattr(self, name)) < 1:
                raise ConfigError(f"augmentation: {name} is {value:g}, but should be from 0 up to, not including, 1")
        for name in ("rotation", "zoom", "blur", "mixup"):
            if not 0 <= (value := getattr(self, name)) < math.inf:
                raise ConfigError(f"augmentation: {name} is {value:g}, but should be 0 or above")


Augment = Callable[[jax.Array, jax.Array, jax.Array, jax.Array], tuple[jax.Array, jax.Array]]
"""Keys (B,), images (B, S, S, 3), targets (B, C) and mask (B,) to changed images and targets."""


def make_augment(settings: Augmentation) -> Augment:
    """Returns the compiled ``augment(keys, images, targets, mask) -> (images, targets)``.

    Images are uint8 or float32 (B, S, S, 3) with values 0 … 255, and come back as float32 in that
    range, not rounded.  Targets are float32 (B, C), the share of each class; only MixUp changes them.
    The mask, bool (B,), is False where a batch is padded: such an image stays black, and none is
    mixed with it.

    An image's changes depend on its key and on itself alone, with MixUp also on its partner, whom the
    first key of the batch draws.  Each augmentation draws from a key of its own: switching one off
    leaves what the others draw.
    """

    def augment(keys: jax.Array, images: jax.Array, targets: jax.Array, mask: jax.Array) -> tuple[jax.Array, jax.Array]:
        images = jax.vmap(lambda key, image: _augment_one(settings, key, image))(keys, images.astype(jnp.float32))
        if settings.mixup:
            images, targets = mixup(jax.random.fold_in(keys[0], _MIXING), images, targets, mask, settings.mixup)
        return images, targets

    return jax.jit(augment)


_MIXING = 2**31
"""What the first key is folded with; the other keys come from splitting."""


def _augment_one(settings: Augmentation, key: jax.Array, image: jax.Array) -> jax.Array:
    flips, turns, geometry, dye, light, contrast, blur, hole = jax.random.split(key, 8)
    if settings.flips:
        image = flip(flips, image)
    if settings.quarter_turns:
        image = turn(image, jax.random.randint(turns, (), 0, 4))
    if settings.rotation or settings.shift or settings.zoom or settings.crop:
        matrix, offset = draw_affine(geometry, settings)
        image = affine(image, matrix, offset)
    if settings.stain:
        image = stain.jitter(dye, image, settings.stain)
    if settings.brightness:
        image = image * _factor(light, settings.brightness)
    if settings.contrast:
        image = change_contrast(image, _factor(contrast, settings.contrast))
    if settings.blur:
        image = gaussian_blur(image, jax.random.uniform(blur, maxval=settings.blur))
    if settings.cutout:
        image = cutout(hole, image, settings.cutout)
    return jnp.clip(image, 0.0, 255.0)


def _factor(key: jax.Array, strength: float) -> jax.Array:
    return jax.random.uniform(key, minval=1.0 - strength, maxval=1.0 + strength)


def flip(key: jax.Array, image: jax.Array) -> jax.Array:
    """Mirrors each axis of an image (S, S, 3) with probability one half; exact."""
    rows, columns = jax.random.bernoulli(key, shape=(2,))
    image = jnp.where(rows, image[::-1], image)
    return jnp.where(columns, image[:, ::-1], image)


def turn(image: jax.Array, quarters: jax.Array | int) -> jax.Array:
    """Turns an image (S, S, 3) counterclockwise by 0 … 3 quarters, as `numpy.rot90` does; exact."""
    quarters = jnp.asarray(quarters)
    image = jnp.where(quarters % 2 == 1, image.swapaxes(0, 1), image)
    image = jnp.where((quarters == 1) | (quarters == 2), image[::-1], image)
    return jnp.where(quarters >= 2, image[:, ::-1], image)


def dihedral(image: jax.Array, view: jax.Array | int) -> jax.Array:
    """Returns one of the eight views of a square image that turning and mirroring make; exact.

    Views 0 … 3 are the image turned by that many quarters, views 4 … 7 the image mirrored left to
    right, and then turned by ``view - 4`` quarters.  View 0 is the image itself.

    Args:
        image: (S, S, 3) of any type.
        view: 0 … 7.
    """
    view = jnp.asarray(view)
    return turn(jnp.where(view >= 4, image[:, ::-1], image), view % 4)


def draw_affine(key: jax.Array, settings: Augmentation) -> tuple[jax.Array, jax.Array]:
    """Draws ``rotation``, ``zoom``, ``shift`` and ``crop`` as one map for `affine`.

    The image is turned and zoomed about its center, then shifted, then cropped.

    Returns:
        float32 (2, 2) and (2,): from a place in the result to the place in the image that is shown
        there, in fractions of the side from the center: rows, columns.
    """
    drawn = jax.random.uniform(key, (7,), minval=-1.0)
    angle = jnp.deg2rad(drawn[0] * settings.rotation)
    zoom = jnp.exp(drawn[1] * math.log1p(settings.zoom))
    shift = drawn[2:4] * settings.shift
    kept = 1 - jnp.abs(drawn[4]) * settings.crop
    window = drawn[5:] * (1 - kept) / 2  # its center
    cosine, sine = jnp.cos(angle), jnp.sin(angle)
    back = jnp.array([[cosine, sine], [-sine, cosine]]) / zoom
    return back * kept, back @ (window - shift)


def affine(image: jax.Array, matrix: jax.Array, offset: jax.Array) -> jax.Array:
    """Resamples an image once, bilinearly; what lies outside of it is black.

    Args:
        image: float32 (S, S, 3).
        matrix: float32 (2, 2), as from `draw_affine`.
        offset: float32 (2,), likewise.

    Returns:
        float32 (S, S, 3); at p the image's value at ``matrix @ p + offset``, where places are rows
        and columns, in fractions of the side S from the center.
    """
    side = image.shape[0]
    line = jnp.arange(side, dtype=jnp.float32) - (side - 1) / 2  # pixels, so that quarter turns are exact
    rows, columns = line[:, None], line[None, :]
    source = [matrix[axis, 0] * rows + matrix[axis, 1] * columns for axis in (0, 1)]
    places = [source[axis] + (offset[axis] * side + (side - 1) / 2) for axis in (0, 1)]
    return jax.vmap(lambda channel: map_coordinates(channel, places, order=1), 2, 2)(image)


def change_contrast(image: jax.Array, factor: jax.Array | float) -> jax.Array:
    """Stretches the intensities of each color about the cell's: ``level · (image / level) ** factor``.

    Near the level that is ``level + factor · (image - level)``, the usual change of contrast, which
    would however light up the dim rim of a cell and the noise that JPEG leaves in the background.

    Args:
        image: float32 (S, S, 3).
        factor: above 0.
    """
    level = _level(image)
    return level * (image / level) ** factor


def gaussian_blur(image: jax.Array, sigma: jax.Array | float) -> jax.Array:
    """Blurs a cell without letting it bleed into the black around it.

    As if an unsharp photograph had been segmented, and not a segmented one made unsharp: a pixel
    becomes the weighted mean of the pixels that belong to the cell, as far as it belongs to it
    itself (normalized convolution, Knutsson and Westin 1993, doi 10.1109/CVPR.1993.341081).  A pixel
    belongs to it wholly from half of the cell's intensity on, below that in proportion.

    Args:
        image: float32 (S, S, 3).
        sigma: standard deviation in pixels.
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
    """Returns the usual intensity of the cell, float32 (1, 1, C), of an image (S, S, C).

    It is the mean weighted by the intensity itself, which a background that is black, or nearly so, leaves alone.
    """
    level = jnp.sum(image**2, (0, 1), keepdims=True) / jnp.maximum(jnp.sum(image, (0, 1), keepdims=True), 1.0)
    return jnp.maximum(level, 1.0)  # of an image that is black all over


def cutout(key: jax.Array, image: jax.Array, side: float) -> jax.Array:
    """Blackens a square of an image, float32 (S, S, 3).

    Its center lies anywhere in the image, so that part of it may lie outside (DeVries and Taylor
    2017, arXiv 1708.04552).

    Args:
        key: draws the center.
        image: the image.
        side: of the square, as a fraction of S.
    """
    row, column = jax.random.uniform(key, (2,))
    line = (jnp.arange(image.shape[0], dtype=jnp.float32) + 0.5) / image.shape[0]
    inside = (jnp.abs(line - row) < side / 2)[:, None] & (jnp.abs(line - column) < side / 2)[None, :]
    return jnp.where(inside[..., None], 0.0, image)


def mixup(
    key: jax.Array, images: jax.Array, targets: jax.Array, mask: jax.Array, alpha: float
) -> tuple[jax.Array, jax.Array]:
    """Mixes each image with another of the batch, drawn at random, and its target likewise.

    ``share · image + (1 - share) · partner`` with a share of its own for each image, from
    Beta(alpha, alpha) (Zhang and others 2018, arXiv 1710.09412).

    Args:
        key: draws partners and shares.
        images: float32 (B, S, S, 3).
        targets: float32 (B, C).
        mask: bool (B,); where False, an image is nobody's partner.
        alpha: above 0; small values leave most images nearly as they are.
    """
    who, how_much = jax.random.split(key)
    partner = jax.random.categorical(who, jnp.where(mask, 0.0, -jnp.inf), shape=mask.shape)
    share = jax.random.beta(how_much, alpha, alpha, mask.shape)
    share = jnp.where(mask, share, 1.0)  # padding stays what it is

    def mixed(values: jax.Array) -> jax.Array:
        own = share.reshape(-1, *[1] * (values.ndim - 1))
        return own * values + (1 - own) * values[partner]

    return mixed(images), mixed(targets)
