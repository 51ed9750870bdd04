"""Paints one generated blood cell: outline, nucleus with chromatin and nucleoli, thin paler cytoplasm.

Lengths and areas are in pixels of the real set's 450 × 450 images; the means
and spreads of area and colour are near those measured on real cells.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Array = NDArray[np.floating]

_SIDE = 450  # pixels of the images that the lengths here refer to
_ANGLES = np.linspace(0, 2 * math.pi, 180, endpoint=False, dtype=np.float32)
_NUCLEUS = np.array((63, 25, 74), np.float32)  # RGB, 0 to 255
_CYTOPLASM = np.array((88, 50, 101), np.float32)
_PALE = np.array((46, 30, 22), np.float32)  # what a gap between the chromatin's clumps adds
_NUCLEOLUS = np.array((14, 12, 26), np.float32)
_RIM_BLUE = np.array((-8, 12, 30), np.float32)  # the real cells' edges: blue to one side, pink to the other
_RIM_PINK = np.array((26, 16, 4), np.float32)


@dataclass(frozen=True)
class Look:
    """How one cell looks.

    Attributes:
        area: natural logarithm of the cell's area.
        nucleus: radius of the nucleus relative to the cell's.
        grain: natural logarithm of the distance between the chromatin's clumps.
        clumping: their contrast.
        roughness: of the outline, relative to the radius.
        nucleoli: how many are expected.
        stain: factor on all colours.
        redness: share of the blue that turns red.
    """

    area: float
    nucleus: float
    grain: float
    clumping: float
    roughness: float
    nucleoli: float
    stain: float
    redness: float


# Mean of normal cells, mean of blasts, standard deviation between people, and between one person's cells.
_LOOKS = {
    "area": (10.13, 10.46, 0.09, 0.19),
    "nucleus": (0.88, 0.93, 0.02, 0.03),
    "grain": (2.60, 2.25, 0.15, 0.12),
    "clumping": (0.115, 0.09, 0.02, 0.02),
    "roughness": (0.012, 0.018, 0.003, 0.004),
    "nucleoli": (0.3, 1.3, 0.3, 0.3),
    "stain": (1.00, 1.00, 0.08, 0.06),
    "redness": (0.00, 0.00, 0.04, 0.03),
}


def draw_look(label: int, person: np.random.Generator, cell: np.random.Generator) -> Look:
    """Draws how a cell looks.

    Args:
        label: 0 for a normal cell, 1 for a blast.
        person: random numbers that all cells of a person share.
        cell: random numbers of this cell.
    """
    return Look(
        **{
            name: numbers[label] + numbers[2] * person.standard_normal() + numbers[3] * cell.standard_normal()
            for name, numbers in _LOOKS.items()
        }
    )


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
    radius = math.sqrt(math.exp(look.area) / math.pi) * scale
    half = min(math.ceil(1.4 * radius), image_size // 2)
    y, x = np.mgrid[-half:half, -half:half].astype(np.float32) + 0.5
    outline = _outline(rng, look.roughness)
    inside, angle = _depth(x, y, radius * outline)
    share = min(max(look.nucleus, 0.7), 0.97)
    # The nucleus touches one side of the cell, so that the cytoplasm is a crescent on the other.
    side = rng.uniform(0, 2 * math.pi)
    shift = rng.uniform(0.5, 1.0) * (1 - share) * radius
    nucleus_outline = share * radius * (0.6 * outline + 0.4 * _outline(rng, 0.015))
    depth, _ = _depth(x - shift * math.cos(side), y - shift * math.sin(side), nucleus_outline)
    nucleus = _sigmoid(depth / (2.5 * scale))

    colour = _CYTOPLASM + nucleus[..., None] * (_chromatin(look, rng, x, y, radius, scale) - _CYTOPLASM)
    rim = np.exp(-np.maximum(inside, 0) / (3.5 * scale))
    turn = 0.5 + 0.5 * np.cos(angle - rng.uniform(0, 2 * math.pi))
    colour += (rim * turn)[..., None] * _RIM_BLUE + (rim * (1 - turn))[..., None] * _RIM_PINK
    colour *= np.array((1 + look.redness, 1, 1 - look.redness), np.float32) * max(look.stain, 0.5)
    colour += rng.standard_normal(colour.shape, np.float32)
    # At least 1, so that the cell is what is not black.
    cell = np.clip(colour, 1, 255) * (inside > 0)[..., None]
    image = np.zeros((image_size, image_size, 3), np.uint8)
    # Cells of the real set stand in the middle, give or take.
    free = image_size // 2 - half
    top, left = (image_size // 2 - half + np.clip(rng.normal(0, 4 * scale, 2), -free, free).astype(int)).tolist()
    image[top : top + 2 * half, left : left + 2 * half] = cell.astype(np.uint8)
    return image


def _outline(rng: np.random.Generator, roughness: float) -> Array:
    """Radius in each direction of `_ANGLES`, around 1: an ellipse, some waves and a few bites and bumps."""
    waves = np.arange(2, 13)
    sizes = max(roughness, 0.004) * (3 / waves) ** 0.8
    sizes[0] = 0.05
    phases = rng.uniform(0, 2 * math.pi, len(waves))
    heights = sizes * rng.standard_normal(len(waves))
    radii = 1 + heights @ np.cos(waves[:, None] * _ANGLES + phases[:, None])
    for _ in range(rng.poisson(120 * max(roughness, 0))):
        away = np.angle(np.exp(1j * (_ANGLES - rng.uniform(0, 2 * math.pi))))
        radii += rng.normal(0, 0.03) * np.exp(-0.5 * (away / rng.uniform(0.06, 0.2)) ** 2)
    return np.clip(radii, 0.6, 1.38).astype(np.float32)


def _depth(x: Array, y: Array, radii: Array) -> tuple[Array, Array]:
    """How far inside the outline each pixel lies, along its ray (negative outside), and its direction."""
    angle = np.arctan2(y, x)
    steps = (angle * np.float32(len(radii) / (2 * math.pi))) % len(radii)
    low = steps.astype(np.intp) % len(radii)
    part = steps - np.floor(steps)
    edge = radii[low] * (1 - part) + radii[(low + 1) % len(radii)] * part
    return edge - np.hypot(x, y), angle


def _chromatin(look: Look, rng: np.random.Generator, x: Array, y: Array, radius: float, scale: float) -> Array:
    """RGB of the nucleus: dark clumps, paler gaps of a redder tone, nucleoli; shape (h, w, 3)."""
    grain = math.exp(look.grain) * scale
    fine, coarse, slow = (_noise(rng, len(x), spacing) for spacing in (grain, 2.5 * grain, 60 * scale))
    clumps = max(look.clumping, 0.02) * (0.8 * fine + 0.5 * coarse + 0.4 * slow)
    colour: Array = _NUCLEUS * (1 + clumps)[..., None]
    gaps = np.maximum(0.7 * fine + 0.7 * coarse - 1.0, 0) * (4 * max(look.clumping, 0.02))
    colour += gaps[..., None] * _PALE
    for _ in range(rng.poisson(max(look.nucleoli, 0))):
        distance, turn = 0.6 * radius * math.sqrt(rng.uniform()), rng.uniform(0, 2 * math.pi)
        width = rng.uniform(9, 15) * scale
        squared = (x - distance * math.cos(turn)) ** 2 + (y - distance * math.sin(turn)) ** 2
        colour += np.exp(-0.5 * squared / width**2)[..., None] * _NUCLEOLUS
    return colour


def _noise(rng: np.random.Generator, side: int, spacing: float) -> Array:
    """Smooth noise of variance about 1: random numbers `spacing` pixels apart, cubic between them."""
    knots = math.ceil(side / spacing) + 3
    grid = Image.fromarray(rng.standard_normal((knots, knots), np.float32))
    # The box makes the spacing exact whatever the side; the factor makes up for what interpolation smooths.
    box = (1.0, 1.0, 1.0 + side / spacing, 1.0 + side / spacing)
    noise: Array = 1.35 * np.asarray(grid.resize((side, side), Image.Resampling.BICUBIC, box=box))
    return noise


def _sigmoid(x: Array) -> Array:
    rising: Array = 0.5 + 0.5 * np.tanh(0.5 * x)
    return rising
