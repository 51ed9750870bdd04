"""Paints one generated blood cell: outline, nucleus with chromatin and nucleoli, thin paler cytoplasm.

Areas and lengths are in pixels of the real set's 450 × 450 images.  A cell is
a field of stain density; a pixel's color follows from it by Beer and
Lambert's law, I = 255 exp(-optical density × stain density).  On 512 real
cells nearly all that distinguishes the colors of people, fields and cells,
and of the spots inside a cell, lies along that one line.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Array = NDArray[np.floating]

_SIDE = 450  # pixels of the images that the lengths here refer to
_ANGLES = np.linspace(0, 2 * math.pi, 1024, endpoint=False, dtype=np.float32)
_OPTICAL_DENSITY = (1.40, 2.33, 1.25)  # of R, G and B inside a nucleus of mean stain
_HUE = (-0.22, -0.46, 0.86)  # direction in log RGB of the little that stain does not explain
_CYTOPLASM = 0.75  # its stain density, relative to the nucleus's
_RIM_BLUE = (-0.10, 0.35, 0.30)  # what the outermost pixels lack in optical density: blue to one side,
_RIM_PINK = (0.35, 0.45, 0.10)  # pink to the other
_NOISE = 0.008  # of the stain density, from pixel to pixel


@dataclass(frozen=True)
class Look:
    """How one cell looks.

    Attributes:
        area: natural logarithm of the cell's area, in pixels of 450 × 450.
        nucleus: radius of the nucleus relative to the cell's.
        grain: natural logarithm of the distance between the chromatin's clumps.
        clumping: their contrast in stain density.
        roughness: of the outline, relative to the radius.
        nucleoli: how many are expected.
        stain: factor on the stain density.
        hue: towards blue, in logarithms of intensity.
    """

    area: float
    nucleus: float
    grain: float
    clumping: float
    roughness: float
    nucleoli: float
    stain: float
    hue: float


# Of normal cells and of blasts: mean, standard deviation between people, between the fields of a person, and between
# the cells of a field.  Area, stain and hue are as measured on the real set.  In the rest people differ more than their
# own cells do, so that a classifier that has seen a person does better on that person's other cells than on strangers:
# by about .04 of AUC with frozen features, as on the real set.
_LOOKS = {
    "area": ((10.14, 0.140, 0.0, 0.265), (10.48, 0.100, 0.0, 0.180)),
    "nucleus": ((0.95, 0.015, 0.0, 0.010), (0.965, 0.015, 0.0, 0.010)),
    "grain": ((2.67, 0.230, 0.0, 0.100), (2.23, 0.230, 0.0, 0.100)),
    "clumping": ((0.08, 0.020, 0.0, 0.008), (0.08, 0.020, 0.0, 0.008)),
    "roughness": ((0.011, 0.004, 0.0, 0.003), (0.018, 0.004, 0.0, 0.003)),
    "nucleoli": ((0.3, 0.500, 0.0, 0.300), (1.7, 0.500, 0.0, 0.300)),
    "stain": ((1.00, 0.078, 0.038, 0.050), (1.00, 0.078, 0.038, 0.050)),
    "hue": ((0.00, 0.016, 0.030, 0.026), (0.00, 0.016, 0.030, 0.026)),
}


def draw_look(label: int, person: np.random.Generator, field: np.random.Generator, cell: np.random.Generator) -> Look:
    """Draws how a cell looks.

    Args:
        label: 0 for a normal cell, 1 for a blast.
        person: random numbers that all cells of a person share.
        field: random numbers that all cells of a microscope field share.
        cell: random numbers of this cell.
    """
    table = np.array([of_classes[label] for of_classes in _LOOKS.values()])
    chances = np.stack([rng.standard_normal(len(table)) for rng in (person, field, cell)], axis=1)
    drawn = table[:, 0] + (table[:, 1:] * chances).sum(axis=1)
    return Look(**dict(zip(_LOOKS, drawn.tolist(), strict=True)))


def paint(look: Look, rng: np.random.Generator, image_size: int) -> NDArray[np.uint8]:
    """Paints a cell on black.

    Args:
        look: of the cell.
        rng: draws its outline, chromatin and position.
        image_size: side S of the image in pixels.

    Returns:
        RGB, shape (S, S, 3); exactly black outside the cell.
    """
    scale = image_size / _SIDE
    edge = _outline(rng, look) * scale
    half = min(math.ceil(edge.max()), image_size // 2)
    x = np.arange(-half, half, dtype=np.float32) + np.float32(0.5)
    y = x[:, None]
    distance, turn = np.hypot(x, y), np.arctan2(y, x)
    # The pixel's place among the angles; a negative one counts from the end, as it should.
    depth = edge[(turn * np.float32(len(edge) / (2 * math.pi))).astype(np.intp)] - distance

    # The nucleus touches one side of the cell, so that the cytoplasm is a crescent on the other.
    width = (1 - min(max(look.nucleus, 0.7), 0.99)) * edge.mean()
    crescent = width * (1 - rng.uniform(0.5, 1.0) * _towards(rng, x, y, distance))
    nucleus = 0.5 + 0.5 * np.tanh((depth - crescent) / (5 * scale))
    density = _CYTOPLASM + nucleus * (_chromatin(look, rng, x, y, scale) - _CYTOPLASM)
    density += _NOISE * rng.standard_normal(density.shape, np.float32)

    rim = np.exp(np.minimum(-depth / (2.5 * scale), 0))
    blue = rim * (0.5 + 0.5 * _towards(rng, x, y, distance))
    pink = rim - blue
    image = np.zeros((image_size, image_size, 3), np.uint8)
    # Cells of the real set stand in the middle, give or take.
    free = image_size // 2 - half
    top, left = (free + np.clip(rng.normal(0, 4 * scale, 2), -free, free).astype(int)).tolist()
    for channel in range(3):
        strength = max(look.stain, 0.5) * _OPTICAL_DENSITY[channel] - look.hue * _HUE[channel]
        optical = strength * density - (_RIM_BLUE[channel] * blue + _RIM_PINK[channel] * pink)
        # At least 1, so that the cell is what is not black.
        cell = np.clip(255 * np.exp(-optical), 1, 255) * (depth > 0)
        image[top : top + 2 * half, left : left + 2 * half, channel] = cell.astype(np.uint8)
    return image


def _outline(rng: np.random.Generator, look: Look) -> Array:
    """Radius in each direction of `_ANGLES`: an ellipse, some waves and a few bites and bumps, of the look's area."""
    waves = np.arange(2, 13)
    sizes = max(look.roughness, 0.004) * (3 / waves) ** 1.2
    sizes[0] = 0.08
    phases = rng.uniform(0, 2 * math.pi, len(waves))
    heights = sizes * rng.standard_normal(len(waves))
    radii = 1 + heights @ np.cos(waves[:, None] * _ANGLES + phases[:, None])
    for _ in range(rng.poisson(120 * max(look.roughness, 0))):
        away = (_ANGLES - rng.uniform(0, 2 * math.pi) + math.pi) % (2 * math.pi) - math.pi
        radii += rng.normal(0, 0.04) * np.exp(-0.5 * (away / rng.uniform(0.04, 0.2)) ** 2)
    radii = np.clip(radii, 0.6, 1.4)
    radii *= math.sqrt(math.exp(look.area) / (math.pi * np.mean(radii**2)))
    return np.minimum(radii, _SIDE / 2 - 1).astype(np.float32)


def _towards(rng: np.random.Generator, x: Array, y: Array, distance: Array) -> Array:
    """Cosine of the angle between each pixel's direction and one that is drawn."""
    angle = rng.uniform(0, 2 * math.pi)
    cosine: Array = (math.cos(angle) * x + math.sin(angle) * y) / distance
    return cosine


def _chromatin(look: Look, rng: np.random.Generator, x: Array, y: Array, scale: float) -> Array:
    """Stain density of the nucleus around 1: dark clumps, paler gaps, nucleoli; shape (h, w)."""
    grain = math.exp(look.grain) * scale
    fine, coarse, slow = (_noise(rng, len(x), spacing) for spacing in (grain, 2.5 * grain, 60 * scale))
    contrast = max(look.clumping, 0.01)
    density = 1 + contrast * (0.4 * fine + 0.5 * coarse + 0.7 * slow)
    density -= 1.5 * contrast * np.maximum(0.7 * fine + 0.7 * coarse - 1, 0)
    radius = math.sqrt(math.exp(look.area) / math.pi) * scale
    for _ in range(rng.poisson(max(look.nucleoli, 0))):
        distance, angle = 0.6 * radius * math.sqrt(rng.uniform()), rng.uniform(0, 2 * math.pi)
        width = rng.uniform(9, 15) * scale
        squared = (x - distance * math.cos(angle)) ** 2 + (y - distance * math.sin(angle)) ** 2
        density -= 0.12 * np.exp(squared * (-0.5 / width**2))
    return density


def _noise(rng: np.random.Generator, side: int, spacing: float) -> Array:
    """Smooth noise of variance about 1: random numbers `spacing` pixels apart, cubic between them."""
    knots = math.ceil(side / spacing) + 3
    grid = Image.fromarray(rng.standard_normal((knots, knots), np.float32))
    # The box makes the spacing exact whatever the side; the factor makes up for what interpolation smooths.
    box = (1.0, 1.0, 1.0 + side / spacing, 1.0 + side / spacing)
    noise: Array = np.asarray(grid.resize((side, side), Image.Resampling.BICUBIC, box=box)) * np.float32(1.35)
    return noise
