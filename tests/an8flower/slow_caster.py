"""A second renderer in plain numpy, slow and dense: every sample is tried against every ellipsoid, by other algebra.

It shares constants and the drawings on faces with the renderer, none of its steps: rays are taken into each ellipsoid's
own frame by the inverse of its axes, and normals come from the gradient there.
"""

from __future__ import annotations

import numpy as np

from an8flower import render as fast
from an8flower.scene import Scenes

Vector = tuple[np.ndarray, np.ndarray]


def picture(scenes: Scenes, row: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Image (S, S, 3) uint8 and part map (S, S) uint8 of one row."""
    x, y = grid(size)
    part = np.append(scenes.part[scenes.offsets[row] : scenes.offsets[row + 1]], 0)
    light = developed(scenes, row, size, owners(scenes, row, *grid(2 * size)))
    return fast.to_srgb_bytes(light), part[owners(scenes, row, x, y)]


def grid(count: int) -> Vector:
    """Places x and y (count, count) of the centres of a picture's cells."""
    along = (np.arange(count) + 0.5) / count * 2 - 1
    x, y = np.meshgrid(along, -along)
    return x, y


def met(
    centre: np.ndarray, axes: np.ndarray, x: np.ndarray, y: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Depth at which rays meet an ellipsoid (NaN: not at all), and there and half way through, in its own frame."""
    inverse = np.linalg.inv(axes)
    start = np.stack([x - centre[0], y - centre[1], np.zeros_like(x)], axis=-1) @ inverse
    step = inverse[2]
    a, b, c = step @ step, start @ step, (start * start).sum(axis=-1) - 1
    root = b * b - a * c
    far = (-b + np.sqrt(np.where(root >= 0, root, np.nan))) / a
    return centre[2] + far, start + far[..., None] * step, start - (b / a)[..., None] * step


def owners(scenes: Scenes, row: int, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The nearest ellipsoid of each ray, -1 where there is none."""
    depths = [np.full(x.shape, -1e9)]
    for k in range(scenes.offsets[row], scenes.offsets[row + 1]):
        depth, _, middle = met(scenes.centre[k], scenes.axes[k], x, y)
        u, v = middle[..., 0], middle[..., 1]
        a, b = scenes.outline[k]
        there = ~np.isnan(depth) & (v * v <= (1 - u * u) * (a + b * u) ** 2)
        depths.append(np.where(there, depth, -1e9))
    return np.argmax(depths, axis=0) - 1


def developed(scenes: Scenes, row: int, size: int, owner: np.ndarray) -> np.ndarray:
    """Linear light (S, S, 3): each ellipsoid in a pixel, shaded at the mean place of its samples there."""
    x, y = grid(2 * size)
    ground = tones(scenes, row, size)[..., None] * (painted(scenes, row, size) or [scenes.backdrop[row]])[0]
    light = ground * pooled(owner == -1, size)[..., None] / 4
    for k in np.unique(owner[owner >= 0]):
        count = pooled(owner == k, size)
        some = np.maximum(count, 1)
        place = pooled(x * (owner == k), size) / some, pooled(y * (owner == k), size) / some
        shades = shade(scenes, row, scenes.offsets[row] + k, *place)
        light += np.where(count > 0, count / 4, 0)[..., None] * np.nan_to_num(shades)
    return light


def painted(scenes: Scenes, row: int, size: int) -> list[np.ndarray]:
    """The light (S, S, 3) of a ground that is painted, as it is shown; none for other kinds."""
    if scenes.kind[row] < fast.FIRST_PAINTED:
        return []
    images = np.zeros((len(scenes.kind), size, size, 3), np.uint8)
    colours = fast.to_srgb_bytes(scenes.backdrop)
    fast.paint_grounds(images, scenes.kind, colours, scenes.texture, scenes.ground, slice(row, row + 1))
    return [fast.LIGHT[images[row]]]


def pooled(values: np.ndarray, size: int) -> np.ndarray:
    """Sums (S, S) of 2 x 2 samples."""
    return values.reshape(size, 2, size, 2).sum(axis=(1, 3)).astype(float)


def shade(scenes: Scenes, row: int, k: int, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Linear light (..., 3) of an ellipsoid at places of the picture."""
    _, place, middle = met(scenes.centre[k], scenes.axes[k], x, y)
    place = np.where(np.isnan(place), middle, place)  # a mean place can lie a hair outside
    material = scenes.material[k]
    tone = pattern(material, place[..., 0], place[..., 1])[..., None]
    if material == fast.LABEL:
        return scenes.colour[k] * tone
    normal = place @ np.linalg.inv(scenes.axes[k]).T
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    diffuse, shine = lit(scenes, row, material, normal)
    return scenes.colour[k] * tone * diffuse[..., None] + shine[..., None]


def lit(scenes: Scenes, row: int, material: int, normal: np.ndarray) -> Vector:
    """Diffuse light and highlight."""
    wrap, glow, gloss = fast.FINISH[material]
    facing = normal @ scenes.light[row]
    direct = np.maximum(0, (facing + wrap) / (1 + wrap)) + glow * np.maximum(0, -facing)
    above = (1 + normal @ scenes.up[row]) / 2
    half = scenes.light[row] + (0, 0, 1)
    mirror = np.maximum(0, normal @ (half / np.linalg.norm(half))) ** 32
    strength = scenes.strength[row]
    ambient = fast.SKY * above + fast.GROUND * (1 - above)
    return strength * fast.SUN * direct + ambient, strength * gloss * mirror


def pattern(material: int, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """The renderer's own drawing, place by place: it is a choice of taste, with nothing to be derived."""
    return np.vectorize(lambda a, b: float(fast._pattern(material, a, b)))(u, v)


def tones(scenes: Scenes, row: int, size: int) -> np.ndarray:
    """Brightness (S, S) of the backdrop."""
    x, y = grid(size)
    kind, seed = scenes.kind[row], int(scenes.texture[row])
    tone = np.ones((size, size))
    if kind == fast.GRADIENT:
        tone = 1.12 - 0.22 * (x**2 + (y - 0.35) ** 2)
    if kind == fast.TEXTURED:
        waves = [0.45 / 2**o * wave(size, fast.COARSEST * 2**o, seed + 101 * o) for o in range(fast.OCTAVES)]
        tone = 0.55 + sum(waves)
    left, down, width, height, darkness = scenes.shadow[row]
    inside = np.maximum(0, 1 - ((x - left) / width) ** 2 - ((y - down) / height) ** 2)
    return tone * (1 - darkness * inside**2)


def wave(size: int, cells: int, seed: int) -> np.ndarray:
    """One octave of value noise as a product of two interpolating matrices with the lattice."""
    lattice = np.array([[fast.noise(c, r, seed) for c in range(cells + 1)] for r in range(cells + 1)])
    place = (np.arange(size) + 0.5) * cells / size
    gap = np.abs(place[:, None] - np.arange(cells + 1))
    weights = np.where(gap < 1, 1 - gap**2 * (3 - 2 * gap), 0)
    return weights @ lattice @ weights.T
