"""The renderer: scenes to pictures and part maps, by casting one ray per sample against ellipsoids, compiled by numba.

The camera is orthographic, so that an ellipsoid covers an ellipse, and the depth at which a ray meets it has a closed
form: with E the ellipse's quadratic form, z = cz + g . d + w sqrt(1 - E(d)). A petal or a leaf is an ellipsoid cut to
an outline: a ray meets it where the middle of its way through the ellipsoid lies within the outline. Each ellipsoid is
painted into two depth buffers, span by span: one sample at the centre of every pixel, which says whose pixel it is, and
2 x 2 samples, which say how much of a pixel each ellipsoid covers, and which of them show a marked part. Every
ellipsoid in a pixel is then shaded once, in linear light, and weighted by its samples.

Grounds of natural statistics are painted before (`scenery.py`); here the shadow falls on them, and rims are blended.

The whole caster is one file, because numba's cache notices changes in a compiled function's own file only.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from .kernels import compile_kernel, noise
from .scene import MATERIALS, Scenes
from .scenery import BACKDROPS, paint_grounds
from .scenery import FIRST as FIRST_PAINTED

BLOCK = 32  # rows that a thread takes at a time
NOBODY = -1  # owner of a sample that meets no ellipsoid
FAR = -1e9
ALL_SAMPLES = 0b1111  # of a pixel: upper left is 1, upper right 2, lower left 4, lower right 8
LANES = 8  # samples that the processor takes at a time; spans and lines are filled up to a multiple of them

LENS = np.dtype(  # one ellipsoid as the picture sees it
    [(name, "f8") for name in ("cx", "cy", "cz", "exx", "exy", "eyy", "gx", "gy", "w", "across", "reach")]
    + [
        (name, "f8") for name in ("ux", "uy", "vx", "vy", "a", "b")
    ]  # how the middle of a ray's way through moves along and across; the outline
    + [(name, "f8") for name in ("ax", "ay", "az", "bx", "by", "bz", "nx", "ny", "nz")]  # axes over squared lengths
    + [(name, "f8") for name in ("red", "green", "blue")]
    + [("part", "u1"), ("material", "u1"), ("samples", "u1")]  # the last: ALL_SAMPLES if the part is marked, else 0
)
LAMP = np.dtype([(name, "f8") for name in ("x", "y", "z", "strength", "mirror", "upx", "upy", "upz")])  # light of a row

PETAL, DISC, LEAF, LABEL = (MATERIALS.index(name) for name in ("petal", "disc", "leaf", "label"))  # with a pattern
PLAIN, GRADIENT, TEXTURED = (BACKDROPS.index(name) for name in ("plain", "gradient", "textured"))

# How materials answer light: wrap (light that reaches round the edge), glow (light that shines through), gloss.
FINISHES = {
    "petal": (0.35, 0.55, 0.04),
    "disc": (0.30, 0.00, 0.03),
    "stem": (0.25, 0.10, 0.10),
    "leaf": (0.30, 0.40, 0.12),
    "clay": (0.15, 0.00, 0.10),
    "soil": (0.30, 0.00, 0.00),
    "ball": (0.15, 0.00, 0.45),
    "label": (0.00, 0.00, 0.00),
}
FINISH = np.array([FINISHES[material] for material in MATERIALS])
SUN, SKY, GROUND = 0.80, 0.56, 0.34  # share of the lamp, and of what comes from above and from below

TONES = 4096  # steps of the table from light to bytes
SHADES = 1024  # steps of the backdrop's tones
OCTAVES, COARSEST = 3, 4  # of the texture: layers of noise, and cells across the picture in the first
WHITE = 1.6  # the light that is shown as full white; a shoulder below it keeps bright colours from turning pale


def to_srgb_bytes(light: np.ndarray) -> np.ndarray:
    """Convert linear light to sRGB bytes, uint8: unchanged up to a shoulder, compressed above it."""
    shoulder = 0.75
    excess = np.clip((light - shoulder) / (WHITE - shoulder), 0, 1)
    toned = np.minimum(light, shoulder) + (1 - shoulder) * (1 - (1 - excess) ** ((WHITE - shoulder) / (1 - shoulder)))
    encoded = np.where(toned <= 0.0031308, 12.92 * toned, 1.055 * np.maximum(toned, 1e-9) ** (1 / 2.4) - 0.055)
    return np.round(255 * np.clip(encoded, 0, 1)).astype(np.uint8)


def invert_tones(shown: np.ndarray) -> np.ndarray:
    """The light (256,) that is shown as each byte: the middle of what is, by a table from even steps of it to bytes."""
    first, last = (np.searchsorted(shown, np.arange(256), side) for side in ("left", "right"))
    return (first + np.maximum(last - 1, first)) / 2 * (WHITE / (len(shown) - 1))


SRGB = to_srgb_bytes(np.linspace(0, WHITE, TONES))
LIGHT = invert_tones(SRGB)


class Rendering(NamedTuple):
    """Pictures of n scenes, and what is seen where."""

    images: np.ndarray  # (n, S, S, 3) uint8 sRGB
    parts: np.ndarray  # (n, S, S) uint8: the part at each pixel's centre, 0 for none
    samples: np.ndarray  # (n, S, S) uint8: which of a pixel's samples show a marked part, a bit for each of the four


def render(scenes: Scenes, size: int, threads: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Pictures (n, size, size, 3) uint8 sRGB, and maps (n, size, size) uint8 of the part at each pixel's centre.

    The same bytes for any number of threads and any grouping of rows. Safe to call from several threads at once.
    """
    return render_marked(scenes, size, np.zeros((len(scenes.strength), 0), bool), threads)[:2]


def render_marked(scenes: Scenes, size: int, marked: np.ndarray, threads: int | None = None) -> Rendering:
    """Render scenes as `render` does, and keep where some parts of them are seen.

    Args:
        marked: (n, P) bool, which parts of each scene, by their ids; parts without a column are not marked.
    """
    rows = len(scenes.strength)
    images = np.empty((rows, size, size, 3), np.uint8)
    parts, samples = np.empty((rows, size, size), np.uint8), np.empty((rows, size, size), np.uint8)
    blocks = [(start, min(start + BLOCK, rows)) for start in range(0, rows, BLOCK)]
    workers = min(threads or os.cpu_count() or 1, len(blocks))
    rendering, grounds = Rendering(images, parts, samples), to_srgb_bytes(scenes.backdrop)

    def work(block: tuple[int, int]) -> None:
        paint_grounds(images, scenes.kind, grounds, scenes.texture, scenes.ground, slice(*block))
        _render_rows(scenes, marked, *rendering, *block)

    if workers <= 1:
        work((0, rows))
        return rendering
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(work, blocks))
    return rendering


@compile_kernel
def _render_rows(
    scenes: Scenes,
    marked: np.ndarray,
    images: np.ndarray,
    parts: np.ndarray,
    samples_seen: np.ndarray,
    start: int,
    stop: int,
) -> None:
    """Render the rows from start to stop into images, part maps and samples, reusing one set of buffers."""
    size = parts.shape[1]
    centres, centre_owner = _canvas(size)
    samples, sample_owner = _canvas(2 * size)
    tones, lamps = np.empty((size, size)), np.empty(1, LAMP)
    for row in range(start, stop):
        lenses = _lenses(scenes, scenes.offsets[row], scenes.offsets[row + 1])
        _mark(lenses, marked[row])
        box = _box(lenses, size)
        _paint(lenses, box, centres, centre_owner, 1)
        _paint(lenses, box, samples, sample_owner, 2)
        _name(parts[row], lenses, box, centre_owner)
        _lay(tones, scenes.kind[row], scenes.texture[row], scenes.shadow[row])
        is_painted = scenes.kind[row] >= FIRST_PAINTED
        if is_painted:
            _darken(images[row], tones)
        else:
            _print_ground(images[row], tones, scenes.backdrop[row])
        _hang(lamps[0], scenes.light[row], scenes.strength[row], scenes.up[row])
        samples_seen[row] = 0
        ground = (scenes.backdrop[row], tones, is_painted)
        _develop(images[row], samples_seen[row], lenses, lamps[0], box, sample_owner, ground)


# --- which ellipsoid a sample sees ------------------------------------------------------------------------------------


@compile_kernel
def _lenses(scenes: Scenes, first: int, last: int) -> np.ndarray:
    """Project the ellipsoids from `first` to `last`, those of one row, to what the picture needs of them: `LENS`."""
    lenses = np.empty(last - first, LENS)
    for k in range(last - first):
        index = first + k
        _project(lenses[k], scenes.centre[index], scenes.axes[index])
        _dress(lenses[k], scenes.outline[index], scenes.colour[index], scenes.part[index], scenes.material[index])
    return lenses


@compile_kernel
def _project(lens: Any, centre: np.ndarray, axes: np.ndarray) -> None:
    """Fill in the ellipse that an ellipsoid covers, the depth of its surface, and its axes over squared lengths."""
    xx, xy, yy = _moment(axes, 0, 0), _moment(axes, 0, 1), _moment(axes, 1, 1)
    xz, yz, zz = _moment(axes, 0, 2), _moment(axes, 1, 2), _moment(axes, 2, 2)
    area = xx * yy - xy * xy
    lens.cx, lens.cy, lens.cz = centre[0], centre[1], centre[2]
    lens.exx, lens.exy, lens.eyy = yy / area, -xy / area, xx / area
    lens.gx = lens.exx * xz + lens.exy * yz
    lens.gy = lens.exy * xz + lens.eyy * yz
    lens.w = np.sqrt(max(0.0, zz - lens.gx * xz - lens.gy * yz))
    lens.across, lens.reach = np.sqrt(xx), np.sqrt(yy)
    lens.ax, lens.ay, lens.az = _measure(axes[0])
    lens.bx, lens.by, lens.bz = _measure(axes[1])
    lens.nx, lens.ny, lens.nz = _measure(axes[2])


@compile_kernel
def _moment(axes: np.ndarray, i: int, j: int) -> float:
    return axes[0, i] * axes[0, j] + axes[1, i] * axes[1, j] + axes[2, i] * axes[2, j]


@compile_kernel
def _measure(axis: np.ndarray) -> tuple[float, float, float]:
    """An axis over its squared length: its product with a place counts half axes from the centre."""
    square = axis[0] * axis[0] + axis[1] * axis[1] + axis[2] * axis[2]
    return axis[0] / square, axis[1] / square, axis[2] / square


@compile_kernel
def _dress(lens: Any, outline: np.ndarray, colour: np.ndarray, part: int, material: int) -> None:
    """Fill in the outline of an ellipsoid as seen along a ray, its colour, part and material."""
    lens.ux, lens.uy = lens.ax + lens.az * lens.gx, lens.ay + lens.az * lens.gy
    lens.vx, lens.vy = lens.bx + lens.bz * lens.gx, lens.by + lens.bz * lens.gy
    lens.a, lens.b = outline[0], outline[1]
    lens.red, lens.green, lens.blue = colour[0], colour[1], colour[2]
    lens.part, lens.material = part, material


@compile_kernel
def _mark(lenses: np.ndarray, marked: np.ndarray) -> None:
    """Note in each ellipsoid whether its part is marked, (P,) bool by part id."""
    for k in range(len(lenses)):
        part = lenses[k].part
        lenses[k].samples = ALL_SAMPLES if part < len(marked) and marked[part] else 0


@compile_kernel
def _box(lenses: np.ndarray, size: int) -> tuple[int, int, int, int]:
    """The box of pixels around all ellipsoids: left, right, top, bottom; the ends are excluded."""
    left, right, bottom, top = 1.0, -1.0, 1.0, -1.0
    for k in range(len(lenses)):
        lens = lenses[k]
        left, right = min(left, lens.cx - lens.across), max(right, lens.cx + lens.across)
        bottom, top = min(bottom, lens.cy - lens.reach), max(top, lens.cy + lens.reach)
    return _pixel(left, size), _pixel(right, size) + 1, _pixel(-top, size), _pixel(-bottom, size) + 1


@compile_kernel
def _pixel(place: float, size: int) -> int:
    return min(size - 1, max(0, int(np.floor((place + 1) / 2 * size))))


@compile_kernel
def _canvas(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Empty buffers for the depth and the owner of count x count samples, each line filled up to whole lanes."""
    width = count + LANES - count % LANES
    return np.empty((count, width)), np.empty((count, width), np.int16)


@compile_kernel
def _paint(
    lenses: np.ndarray, box: tuple[int, int, int, int], depth: np.ndarray, owner: np.ndarray, grain: int
) -> None:
    """Let every sample of a square grid, `grain` to a pixel's width, find the nearest ellipsoid."""
    left, right, above, below = box
    depth[grain * above : grain * below, grain * left : grain * right] = FAR
    owner[grain * above : grain * below, grain * left : grain * right] = NOBODY
    count = len(depth)
    step = 2.0 / count
    for k in range(len(lenses)):
        lens = lenses[k]
        top = max(0, int(np.ceil((1 - lens.cy - lens.reach) / step - 0.5)))
        bottom = min(count - 1, int(np.floor((1 - lens.cy + lens.reach) / step - 0.5)))
        for i in range(top, bottom + 1):
            _paint_line(lens, k, 1 - (i + 0.5) * step - lens.cy, step, depth[i], owner[i])


@compile_kernel
def _paint_line(lens: Any, k: int, dy: float, step: float, depth: np.ndarray, owner: np.ndarray) -> None:
    """Paint the samples of one line between the two ends of the ellipse."""
    tilt = lens.exy * dy
    square = tilt * tilt - lens.exx * (lens.eyy * dy * dy - 1)
    if square < 0:
        return
    middle, half = lens.cx - tilt / lens.exx, np.sqrt(square) / lens.exx
    left = max(0, int(np.ceil((middle - half + 1) / step - 0.5)))
    right = min(len(depth) - 1, int(np.floor((middle + half + 1) / step - 0.5)))
    left, stop = left - left % LANES, right + LANES - right % LANES
    if left <= right:
        _paint_span(lens, k, dy, step, left, depth[left:stop], owner[left:stop])


@compile_kernel
def _paint_span(lens: Any, k: int, dy: float, step: float, left: int, depth: np.ndarray, owner: np.ndarray) -> None:
    """Paint one span of samples: arithmetic and two selects only, so that the compiler can use vector instructions."""
    start = (left + 0.5) * step - 1 - lens.cx
    exx, exy, rest = lens.exx, 2 * lens.exy * dy, 1 - lens.eyy * dy * dy
    z0, gx, w = lens.cz + lens.gy * dy, lens.gx, lens.w
    u0, ux, v0, vx = lens.uy * dy, lens.ux, lens.vy * dy, lens.vx
    a, b = lens.a, lens.b
    for j in range(len(depth)):
        dx = start + j * step
        inside = rest - dx * (exy + exx * dx)
        root = np.sqrt(max(0.0, inside))
        z = z0 + gx * dx + w * root
        u, v = u0 + ux * dx, v0 + vx * dx
        width = a + b * u
        seen = (inside >= 0) & (z > depth[j]) & (v * v <= (1 - u * u) * width * width)
        depth[j] = z if seen else depth[j]
        owner[j] = k if seen else owner[j]


@compile_kernel
def _name(parts: np.ndarray, lenses: np.ndarray, box: tuple[int, int, int, int], owner: np.ndarray) -> None:
    """Fill in the part map: the part of the ellipsoid at each pixel's centre, 0 for none."""
    left, right, top, bottom = box
    parts[:] = 0
    for i in range(top, bottom):
        for j in range(left, right):
            if owner[i, j] != NOBODY:
                parts[i, j] = lenses[owner[i, j]].part


# --- what it looks like -----------------------------------------------------------------------------------------------


@compile_kernel
def _hang(lamp: Any, light: np.ndarray, strength: float, up: np.ndarray) -> None:
    """Fill in the light of a row."""
    lamp.x, lamp.y, lamp.z, lamp.strength = light[0], light[1], light[2], strength
    lamp.mirror = 1 / np.sqrt(2 + 2 * light[2])  # over the length of light + viewer
    lamp.upx, lamp.upy, lamp.upz = up[0], up[1], up[2]


@compile_kernel
def _develop(
    image: np.ndarray,
    samples: np.ndarray,
    lenses: np.ndarray,
    lamp: Any,
    box: tuple[int, int, int, int],
    owner: np.ndarray,
    ground: tuple[np.ndarray, np.ndarray, bool],
) -> None:
    """Colour every pixel in the box: the shade of each ellipsoid in it and of the backdrop, by share of the samples.

    Where samples show a marked part, their bits are set in `samples`. The ground is a colour and its tones, or what
    is painted in the image already.
    """
    left, right, top, bottom = box
    colour, tones, is_painted = ground
    size = len(image)
    for i in range(top, bottom):
        y = 1 - (2 * i + 1) / size
        upper, lower = owner[2 * i], owner[2 * i + 1]
        for j in range(left, right):
            a, b, c, d = upper[2 * j], upper[2 * j + 1], lower[2 * j], lower[2 * j + 1]
            if (a == NOBODY) & (b == NOBODY) & (c == NOBODY) & (d == NOBODY):
                continue
            x = (2 * j + 1) / size - 1
            if (a == b) & (a == c) & (a == d):
                light = _shade(lenses[a], lamp, x, y)
                samples[i, j] = lenses[a].samples
            else:
                samples[i, j] = _marked_samples(lenses, a, b, c, d)
                behind = _light_of(image[i, j]) if is_painted else _lit_ground(colour, tones[i, j])
                light = _blend(lenses, lamp, (a, b, c, d), x, y, 0.5 / size, behind)
            image[i, j, 0], image[i, j, 1], image[i, j, 2] = _encode(light[0]), _encode(light[1]), _encode(light[2])


@compile_kernel
def _marked_samples(lenses: np.ndarray, a: int, b: int, c: int, d: int) -> int:
    """Which of the four samples of a pixel, owned by a, b, c and d, show a marked part: a bit for each."""
    seen = 0
    if a != NOBODY:
        seen |= lenses[a].samples & 1
    if b != NOBODY:
        seen |= lenses[b].samples & 2
    if c != NOBODY:
        seen |= lenses[c].samples & 4
    if d != NOBODY:
        seen |= lenses[d].samples & 8
    return seen


@compile_kernel
def _encode(light: float) -> int:
    return SRGB[min(TONES - 1, int(light * ((TONES - 1) / WHITE) + 0.5))]


@compile_kernel
def _blend(
    lenses: np.ndarray,
    lamp: Any,
    four: tuple[int, int, int, int],
    x: float,
    y: float,
    quarter: float,
    behind: tuple[float, float, float],
) -> tuple[float, float, float]:
    """The light of a pixel in which several ellipsoids meet: each is shaded once, at the mean place of its samples."""
    red, green, blue = 0.0, 0.0, 0.0
    for s in range(4):
        k = four[s]
        if (s > 0 and four[0] == k) or (s > 1 and four[1] == k) or (s > 2 and four[2] == k):
            continue  # counted already
        share, dx, dy = _place(four, k)
        light = behind
        if k != NOBODY:
            light = _shade(lenses[k], lamp, x + quarter * dx, y + quarter * dy)
        red, green, blue = red + share * light[0], green + share * light[1], blue + share * light[2]
    return red, green, blue


@compile_kernel
def _place(four: tuple[int, int, int, int], k: int) -> tuple[float, float, float]:
    """The share of the four samples that ellipsoid k owns, and their mean place in units of a quarter pixel."""
    a, b, c, d = four[0] == k, four[1] == k, four[2] == k, four[3] == k
    count = a + b + c + d
    return count / 4, (b + d - a - c) / count, (a + b - c - d) / count


@compile_kernel
def _shade(lens: Any, lamp: Any, x: float, y: float) -> tuple[float, float, float]:
    """The light that an ellipsoid sends to the viewer from one place of the picture."""
    u, v, out = _on_face(lens, x - lens.cx, y - lens.cy)
    material = lens.material
    tone, shine = _pattern(material, u, v), 0.0
    if material != LABEL:
        x, y, z = _normal(lens, u, v, out)
        tone = tone * _diffuse(lamp, x, y, z, FINISH[material, 0], FINISH[material, 1])
        shine = FINISH[material, 2] * _highlight(lamp, x, y, z)
    return lens.red * tone + shine, lens.green * tone + shine, lens.blue * tone + shine


@compile_kernel
def _on_face(lens: Any, dx: float, dy: float) -> tuple[float, float, float]:
    """The point at which a ray meets an ellipsoid, in units of the half axes: along, across, out."""
    root = np.sqrt(max(0.0, 1 - lens.exx * dx * dx - 2 * lens.exy * dx * dy - lens.eyy * dy * dy))
    dz = lens.gx * dx + lens.gy * dy + lens.w * root
    u = lens.ax * dx + lens.ay * dy + lens.az * dz
    v = lens.bx * dx + lens.by * dy + lens.bz * dz
    return u, v, lens.nx * dx + lens.ny * dy + lens.nz * dz


@compile_kernel
def _normal(lens: Any, u: float, v: float, out: float) -> tuple[float, float, float]:
    """The unit normal at a place of the surface."""
    x = u * lens.ax + v * lens.bx + out * lens.nx
    y = u * lens.ay + v * lens.by + out * lens.ny
    z = u * lens.az + v * lens.bz + out * lens.nz
    scale = 1 / np.sqrt(x * x + y * y + z * z)
    return x * scale, y * scale, z * scale


@compile_kernel
def _diffuse(lamp: Any, x: float, y: float, z: float, wrap: float, glow: float) -> float:
    """The light that a matt surface reflects: from the lamp, in front or shining through, from sky and ground."""
    facing = x * lamp.x + y * lamp.y + z * lamp.z
    direct = max(0.0, (facing + wrap) / (1 + wrap)) + glow * max(0.0, -facing)
    above = 0.5 + 0.5 * (x * lamp.upx + y * lamp.upy + z * lamp.upz)
    return lamp.strength * SUN * direct + GROUND + (SKY - GROUND) * above


@compile_kernel
def _highlight(lamp: Any, x: float, y: float, z: float) -> float:
    """The strength of the lamp's highlight (Blinn and Phong, to the 32nd power)."""
    mirror = max(0.0, (x * lamp.x + y * lamp.y + z * lamp.z + z) * lamp.mirror)
    for _ in range(5):
        mirror = mirror * mirror
    return lamp.strength * mirror


@compile_kernel
def _pattern(material: int, u: float, v: float) -> float:
    """The brightness of the pattern on a surface, around 1: veins, ribs, seeds."""
    rib = abs(v)
    if material == PETAL:
        streak = abs(6 * v - np.floor(6 * v) - 0.5)
        return (0.86 + 0.14 * u) * (0.97 + 0.06 * streak) * (1 - 0.10 * max(0.0, 1 - rib / 0.14))
    if material == LEAF:
        vein = 5 * u - 3 * rib
        return (0.92 + 0.16 * abs(vein - np.floor(vein) - 0.5)) * (1 + 0.3 * max(0.0, 1 - rib / 0.10))
    if material == DISC:
        seed = noise(int(np.floor(7 * u)), int(np.floor(7 * v)), 7)
        return (1.08 - 0.28 * (u * u + v * v)) * (0.86 + 0.28 * seed)
    if material == LABEL:
        return 1.6 if u * u + v * v > 0.7 else 1.0
    return 1.0


# --- the backdrop -----------------------------------------------------------------------------------------------------


@compile_kernel
def _lay(tones: np.ndarray, kind: int, seed: int, shadow: np.ndarray) -> None:
    """Fill in the brightness of the backdrop at every pixel, in units of its colour."""
    tones[:] = 1.0
    if kind == GRADIENT:
        _grade(tones)
    elif kind == TEXTURED:
        tones[:] = 0.55
        for octave in range(OCTAVES):
            _ripple(tones, COARSEST * 2**octave, 0.45 * 0.5**octave, seed + 101 * octave)
    _cast_shadow(tones, shadow)


@compile_kernel
def _grade(tones: np.ndarray) -> None:
    """Fill in the gradient of a studio: bright behind the plant, darker towards the corners and the floor."""
    size = len(tones)
    for i in range(size):
        y = 0.65 - (2 * i + 1) / size
        for j in range(size):
            x = (2 * j + 1) / size - 1
            tones[i, j] = 1.12 - 0.22 * (x * x + y * y)


@compile_kernel
def _ripple(tones: np.ndarray, cells: int, height: float, seed: int) -> None:
    """Add one octave of value noise with so many cells across the picture."""
    size = len(tones)
    cell, blend, line = np.empty(size, np.int64), np.empty(size), np.empty(cells + 1)
    for i in range(size):
        cell[i], blend[i] = _cell(i, size, cells)
    for i in range(size):
        for c in range(cells + 1):
            upper, lower = noise(c, cell[i], seed), noise(c, cell[i] + 1, seed)
            line[c] = height * (upper + blend[i] * (lower - upper))
        for j in range(size):
            left, right = line[cell[j]], line[cell[j] + 1]
            tones[i, j] += left + blend[j] * (right - left)


@compile_kernel
def _cell(pixel: int, size: int, cells: int) -> tuple[int, float]:
    """The cell of the noise that a pixel lies in, and the weight of the next cell: 0 to 1, smooth at both ends."""
    place = (2 * pixel + 1) * cells / (2 * size)
    inside = place - int(place)
    return int(place), inside * inside * (3 - 2 * inside)


@compile_kernel
def _cast_shadow(tones: np.ndarray, shadow: np.ndarray) -> None:
    """Darken the ground where a plant stands."""
    size = len(tones)
    x, y, width, height, darkness = shadow
    for i in range(_pixel(-y - height, size), _pixel(-y + height, size) + 1):
        dy = (1 - (2 * i + 1) / size - y) / height
        for j in range(_pixel(x - width, size), _pixel(x + width, size) + 1):
            dx = ((2 * j + 1) / size - 1 - x) / width
            inside = max(0.0, 1 - dx * dx - dy * dy)
            tones[i, j] *= 1 - darkness * inside * inside


@compile_kernel
def _lit_ground(colour: np.ndarray, tone: float) -> tuple[float, float, float]:
    return colour[0] * tone, colour[1] * tone, colour[2] * tone


@compile_kernel
def _light_of(pixel: np.ndarray) -> tuple[float, float, float]:
    """The light that is shown as the bytes of a pixel."""
    return LIGHT[pixel[0]], LIGHT[pixel[1]], LIGHT[pixel[2]]


@compile_kernel
def _darken(image: np.ndarray, tones: np.ndarray) -> None:
    """Let the shadow fall on a ground that is painted: pixels of another tone than 1 send that share of their light."""
    for i in range(len(image)):
        for j in range(len(image)):
            if tones[i, j] != 1.0:
                light = _light_of(image[i, j])
                for c in range(3):
                    image[i, j, c] = _encode(light[c] * tones[i, j])


@compile_kernel
def _print_ground(image: np.ndarray, tones: np.ndarray, colour: np.ndarray) -> None:
    """Paint the backdrop alone into an image, through a table from its tones to bytes."""
    shades = np.empty((SHADES, 3), np.uint8)
    for s in range(SHADES):
        red, green, blue = _lit_ground(colour, s * (WHITE / (SHADES - 1)))
        shades[s, 0], shades[s, 1], shades[s, 2] = _encode(red), _encode(green), _encode(blue)
    for i in range(image.shape[0]):
        for j in range(image.shape[1]):
            s = min(SHADES - 1, int(tones[i, j] * ((SHADES - 1) / WHITE) + 0.5))
            image[i, j, 0], image[i, j, 1], image[i, j, 2] = shades[s, 0], shades[s, 1], shades[s, 2]
