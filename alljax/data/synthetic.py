"""Generated white blood cells with subjects: a data set to try everything without a download.

Blasts (`all`) tend to be larger, with finer chromatin, nucleoli and a rougher outline; subjects differ about as much as
the classes. As in C-NMC 2019, size alone classifies four of five cells correctly, a model on new subjects is little
better, and splits by image give optimistic results. Colors follow from stain density by Beer and Lambert's law, as
nearly all color differences of 512 real cells do. Areas and lengths are in pixels of the real 450 × 450 images.
"""

import math
from types import SimpleNamespace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from alljax.data.cnmc import CLASS_NAMES, CLASSES
from alljax.data.dataset import Dataset, Record
from alljax.data.images import encode
from alljax.errors import ConfigError

Array = NDArray[np.floating]

_SUBJECTS_ALL, _IMAGES_ALL = 47 / 73, 7_272 / 10_661  # leukemic shares in the real training set
_SPREAD = (1.0, 0.75)  # log-normal spread of the images per subject (hem, all), so that the five largest match the real
_CELLS_PER_FIELD = 5

# Independent random streams, so that a cell does not change with the number of other cells.
_COUNTS, _SUBJECT, _FIELD, _CELL = 0, 1, 2, 3

_SIDE = 450
_ANGLES = np.linspace(0, 2 * math.pi, 1024, endpoint=False, dtype=np.float32)
_OPTICAL_DENSITY = np.array((1.40, 2.33, 1.25))  # of R, G and B in a nucleus of mean stain
_HUE = np.array((-0.22, -0.46, 0.86))  # direction in log RGB of the remaining color variation
_CYTOPLASM = 0.75  # stain density relative to the nucleus
_RIM_BLUE = np.array((-0.10, 0.35, 0.30), np.float32)  # reduction of optical density at the rim: blue on one side,
_RIM_PINK = np.array((0.35, 0.45, 0.10), np.float32)  # pink on the other
_NOISE = 0.008  # of the stain density, per pixel

# For normal cells and blasts: mean, and standard deviation between subjects, between the fields of a subject, and
# between the cells of a field. Area, stain and hue are measured on the real data. In the others, subjects differ more
# than their cells, so that a classifier is better on subjects that it was trained on, by about .04 AUC as in real data.
_APPEARANCES = {
    "area": ((10.14, 0.140, 0.0, 0.265), (10.48, 0.100, 0.0, 0.180)),  # natural logarithm
    "nucleus": ((0.95, 0.018, 0.0, 0.012), (0.96, 0.018, 0.0, 0.012)),  # radius relative to that of the cell
    "grain": ((2.64, 0.250, 0.0, 0.150), (2.27, 0.250, 0.0, 0.150)),  # logarithm of the distance of chromatin clumps
    "clumping": ((0.13, 0.030, 0.0, 0.015), (0.13, 0.030, 0.0, 0.015)),  # contrast of the clumps in stain density
    "roughness": ((0.012, 0.005, 0.0, 0.004), (0.018, 0.005, 0.0, 0.004)),  # of the outline, relative to the radius
    "nucleoli": ((0.4, 0.500, 0.0, 0.400), (1.5, 0.500, 0.0, 0.400)),  # expected number
    "stain": ((1.00, 0.078, 0.038, 0.050), (1.00, 0.078, 0.038, 0.050)),  # factor on the stain density
    "hue": ((0.00, 0.016, 0.030, 0.026), (0.00, 0.016, 0.030, 0.026)),  # towards blue, in logarithms of intensity
}


def read_synthetic(subjects: int, images: int, image_size: int, seed: int) -> Dataset:
    """Returns a generated data set, rendered when read, with the shares of leukemic subjects and images of C-NMC."""
    if images < subjects:
        raise ConfigError(f"data.synthetic.images={images} must be at least data.synthetic.subjects={subjects}")
    leukemic = min(max(round(_SUBJECTS_ALL * subjects), 1), subjects - 1)
    blasts = min(max(round(_IMAGES_ALL * images), leukemic), images - (subjects - leukemic))
    rng = np.random.default_rng((seed, _COUNTS))
    records = []
    totals = {"H": (subjects - leukemic, images - blasts), "": (leukemic, blasts)}
    for label, (prefix, total) in enumerate(totals.items()):
        for number, count in enumerate(_image_counts(*total, _SPREAD[label], rng), 1):
            subject = f"{prefix}{number}"
            for index in range(count):
                field, cell = index // _CELLS_PER_FIELD + 1, index % _CELLS_PER_FIELD + 1
                path = f"UID_{subject}_{field}_{cell}_{CLASSES[label]}.bmp"
                records.append(Record(path, label, subject, str(field), str(cell)))

    def read(record: Record) -> bytes:
        return encode(render_cell(seed, record.subject, int(record.field), int(record.cell), image_size))

    notes = (f"{images:,} generated images of {subjects:,} subjects: results say nothing about leukemia",)
    return Dataset("synthetic", CLASSES, tuple(records), read, notes, class_names=CLASS_NAMES)


def _image_counts(subjects: int, images: int, spread: float, rng: np.random.Generator) -> list[int]:
    """Returns the number of images per subject: at least one, `images` in total."""
    weights = rng.lognormal(sigma=spread, size=subjects)
    exact = weights / weights.sum() * (images - subjects)
    counts = np.floor(exact).astype(int)
    counts[np.argsort(counts - exact, kind="stable")[: images - subjects - counts.sum()]] += 1  # largest remainders
    return (counts + 1).tolist()


def render_cell(seed: int, subject: str, field: int, cell: int, image_size: int) -> NDArray[np.uint8]:
    """Returns a cell of a subject such as ``12`` (leukemic) or ``H3`` (normal), RGB (S, S, 3), black outside it."""
    label = int(not subject.startswith("H"))
    code = 2 * int(subject.removeprefix("H")) + label
    streams = ((_SUBJECT, code), (_FIELD, code, field), (_CELL, code, field, cell))
    rngs = [np.random.default_rng((seed, *stream)) for stream in streams]
    table = np.array([of_classes[label] for of_classes in _APPEARANCES.values()])
    noise = np.stack([rng.standard_normal(len(table)) for rng in rngs], axis=1)
    values = table[:, 0] + (table[:, 1:] * noise).sum(axis=1)
    appearance, rng = SimpleNamespace(**dict(zip(_APPEARANCES, values.tolist(), strict=True))), rngs[-1]
    scale = image_size / _SIDE
    edge = _outline(rng, appearance) * scale
    half = min(math.ceil(edge.max()), image_size // 2)
    x = np.arange(-half, half, dtype=np.float32) + np.float32(0.5)
    y = x[:, None]
    distance, turn = np.hypot(x, y), np.arctan2(y, x)
    # Index of each pixel's angle; negative angles index from the end, as they should.
    depth = edge[(turn * np.float32(len(edge) / (2 * math.pi))).astype(np.intp)] - distance

    # The nucleus touches one side of the cell, so the cytoplasm is a crescent on the other.
    width = (1 - min(max(appearance.nucleus, 0.7), 0.99)) * edge.mean()
    crescent = width * (1 - rng.uniform(0.5, 1.0) * _towards(rng, x, y, distance))
    nucleus = 0.5 + 0.5 * np.tanh((depth - crescent) / (5 * scale))
    density = _CYTOPLASM + nucleus * (_chromatin(appearance, rng, x, y, scale) - _CYTOPLASM)
    density += _NOISE * rng.standard_normal(density.shape, np.float32)

    rim = np.exp(np.minimum(-depth / (2.5 * scale), 0))[..., None]
    blue = rim * (0.5 + 0.5 * _towards(rng, x, y, distance))[..., None]
    strength = np.float32(max(appearance.stain, 0.5) * _OPTICAL_DENSITY - appearance.hue * _HUE)
    optical = strength * density[..., None] - (_RIM_BLUE * blue + _RIM_PINK * (rim - blue))
    # At least 1, so that the cell is exactly the nonzero pixels.
    cell = np.clip(255 * np.exp(-optical), 1, 255) * (depth > 0)[..., None]
    # Real cells are approximately centered.
    free = image_size // 2 - half
    top, left = (free + np.clip(rng.normal(0, 4 * scale, 2), -free, free).astype(int)).tolist()
    image = np.zeros((image_size, image_size, 3), np.uint8)
    image[top : top + 2 * half, left : left + 2 * half] = cell
    return image


def _outline(rng: np.random.Generator, appearance: SimpleNamespace) -> Array:
    """Returns the radius for each of `_ANGLES`: an ellipse with waves and some notches and bumps, of the given area."""
    waves = np.arange(2, 13)
    sizes = max(appearance.roughness, 0.004) * (3 / waves) ** 1.2
    sizes[0] = 0.08
    phases = rng.uniform(0, 2 * math.pi, len(waves))
    heights = sizes * rng.standard_normal(len(waves))
    radii = 1 + heights @ np.cos(waves[:, None] * _ANGLES + phases[:, None])
    for _ in range(rng.poisson(120 * max(appearance.roughness, 0))):
        away = (_ANGLES - rng.uniform(0, 2 * math.pi) + math.pi) % (2 * math.pi) - math.pi
        radii += rng.normal(0, 0.04) * np.exp(-0.5 * (away / rng.uniform(0.04, 0.2)) ** 2)
    radii = np.clip(radii, 0.6, 1.4)
    radii *= math.sqrt(math.exp(appearance.area) / (math.pi * np.mean(radii**2)))
    return np.minimum(radii, _SIDE / 2 - 1).astype(np.float32)


def _towards(rng: np.random.Generator, x: Array, y: Array, distance: Array) -> Array:
    """Returns the cosine of the angle between each pixel's direction and a random one."""
    angle = rng.uniform(0, 2 * math.pi)
    return (math.cos(angle) * x + math.sin(angle) * y) / distance


def _chromatin(appearance: SimpleNamespace, rng: np.random.Generator, x: Array, y: Array, scale: float) -> Array:
    """Returns the stain density of the nucleus around 1: dark clumps, paler gaps, nucleoli; shape (h, w)."""
    grain = math.exp(appearance.grain) * scale
    fine, coarse, slow = (_smooth_noise(rng, len(x), spacing) for spacing in (grain, 2.5 * grain, 60 * scale))
    contrast = max(appearance.clumping, 0.01)
    density = 1 + contrast * (0.4 * fine + 0.5 * coarse + 0.7 * slow)
    density -= 1.5 * contrast * np.maximum(0.7 * fine + 0.7 * coarse - 1, 0)
    radius = math.sqrt(math.exp(appearance.area) / math.pi) * scale
    for _ in range(rng.poisson(max(appearance.nucleoli, 0))):
        distance, angle = 0.6 * radius * math.sqrt(rng.uniform()), rng.uniform(0, 2 * math.pi)
        width = rng.uniform(9, 15) * scale
        squared = (x - distance * math.cos(angle)) ** 2 + (y - distance * math.sin(angle)) ** 2
        density -= 0.12 * np.exp(squared * (-0.5 / width**2))
    return density


def _smooth_noise(rng: np.random.Generator, side: int, spacing: float) -> Array:
    """Returns smooth noise of variance about 1: random numbers `spacing` pixels apart, bicubic between them."""
    knots = math.ceil(side / spacing) + 3
    grid = Image.fromarray(rng.standard_normal((knots, knots), np.float32))
    # The box makes the spacing exact for every side; the factor compensates the smoothing by interpolation.
    box = (1.0, 1.0, 1.0 + side / spacing, 1.0 + side / spacing)
    return np.asarray(grid.resize((side, side), Image.Resampling.BICUBIC, box=box)) * np.float32(1.35)
