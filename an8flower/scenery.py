"""Grounds of natural statistics behind the plant, painted row by row in sRGB bytes: noise, dead leaves, photographs.

*Noise* is a sum of bands, each an octave wide, cut at random places out of tiles that are made once for a size. Its
amplitude falls with the frequency to a power that the row's factors say (1: as in photographs of nature; D. J. Field,
1987, Relations between the statistics of natural images and the response properties of cortical cells). *Leaves* are
discs that fall on each other, with radii r of density 1 / r^3, which gives scale-free pictures with edges (A. B. Lee,
D. Mumford, J. Huang, 2001, Occlusion models for natural images). *Photographs* are crops of the pictures of an album.

All of them work on the bytes that are shown and not on light, as the statistics of photographs are measured there.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from .factors import FACTORS
from .kernels import compile_kernel, noise

BACKDROPS = FACTORS["background.kind"].choices
NOISE, LEAVES, SCRAMBLE, PHOTO = (BACKDROPS.index(name) for name in ("noise", "leaves", "scramble", "photo"))
FIRST = NOISE  # of the kinds that are painted here
TILE_SEED = 20010
BRIGHTNESS, CHROMA = 0.22, 20.0  # standard deviations at contrast 1 and hues 1: a share of the colour, and of 255
SMOOTH_BANDS = 3  # finest octaves in which hues do not vary, as in photographs
LEAST_RADIUS, MOST_RADIUS = 0.036, 0.30  # of leaves at scale 1, in units of the picture's width
SCALES, SMALLEST_SCALE = 8, 0.1  # of leaves: the nearest of so many, at equal ratios from the smallest one to 1
HALVES = 128 | 128 << 20 | 128 << 40  # of a byte, in three numbers of 20 bits
LITTER, LITTER_SEED = 3, 30020  # side of the leaves that pictures are cut out of, in pictures
LAYERS = 4.0  # leaves that lie on a place on average: one of exp(4) places is bare
LEAF_BRIGHTNESS, LEAF_CHROMA = 0.26, 30.0  # standard deviations, as above
RED_CR, GREEN_CR, GREEN_CB, BLUE_CB = 1.402, -0.714, -0.344, 1.772  # from differences of colour to bytes (BT.601)


class Ground(NamedTuple):
    """What lies behind the plant in n scenes, where it is more than a colour and a seed."""

    contrast: np.ndarray  # (n,) 1 is the usual one
    exponent: np.ndarray  # (n,) of noise: its amplitude falls as 1 / frequency ** exponent
    scale: np.ndarray  # (n,) of the largest structures, 0 to 1
    hues: np.ndarray  # (n,) how far colours stray, 0 to 1
    frame: np.ndarray  # (n,) int64: index of the row's picture in `frames`, -1 for none
    crop: np.ndarray  # (n, 4) left, top, side in pixels of the frame, and 1 if it is flipped
    frames: np.ndarray  # (k, 3) int64: where a picture begins in `pixels`, its height and its width
    means: np.ndarray  # (k, 3) float32: the mean colour of each picture, in bytes
    pixels: np.ndarray  # (bytes,) uint8: all pictures, RGB, one after the other


def empty_ground(rows: int) -> Ground:
    """The ground of scenes that have none of these kinds."""
    numbers, frames = np.zeros(rows), np.zeros((0, 3), np.int64)
    none, means, pixels = np.full(rows, -1), np.zeros((0, 3), np.float32), np.zeros(0, np.uint8)
    return Ground(numbers, numbers, numbers, numbers, none, np.zeros((rows, 4)), frames, means, pixels)


def paint_grounds(
    images: np.ndarray, kind: np.ndarray, colours: np.ndarray, seeds: np.ndarray, ground: Ground, rows: slice
) -> None:
    """Paint what lies behind the plant into images (n, S, S, 3) uint8, in the rows whose kind is one of these.

    Args:
        kind: (n,) uint8 index into BACKDROPS.
        colours: (n, 3) uint8 sRGB, the mean colour of noise and leaves.
        seeds: (n,) int64.
        rows: which of the n rows are painted.
    """
    if kind[rows].max(initial=0) < FIRST:
        return
    tiles = noise_tiles(images.shape[1]) if (kind[rows] == NOISE).any() else NO_TILES
    litter = leaf_litter(images.shape[1]) if (kind[rows] == LEAVES).any() else NO_LITTER
    _paint_rows(images, kind, colours, seeds, ground, tiles, litter, rows.start, rows.stop)


# --- noise ------------------------------------------------------------------------------------------------------------


class Tiles(NamedTuple):
    """Noise of a size, an octave in each tile, at the amplitudes of 1 / frequency."""

    values: np.ndarray  # (bands, 2 S, 2 S) float32, each of mean 0, periodic
    variances: np.ndarray  # (bands,) float64


NO_TILES = Tiles(np.zeros((0, 0, 0), np.float32), np.zeros(0))


@lru_cache(maxsize=4)
def noise_tiles(size: int) -> Tiles:
    """The tiles of noise for pictures of a size; a frequency has the same wave at every size.

    Band b has most of its power at 2^b waves across the picture, and none beyond half and double of that.
    """
    bands = max(1, int(np.ceil(np.log2(size))))
    values = np.stack([_make_band(band, 2 * size) for band in range(bands)])
    return Tiles(values, values.astype(np.float64).var(axis=(1, 2)))


def _make_band(band: int, side: int) -> np.ndarray:
    """One octave of noise on a periodic tile that is two pictures wide, (side, side) float32."""
    most = 4 * 2**band  # waves across the tile at the upper end of the octave
    random = np.random.Generator(np.random.Philox(key=TILE_SEED + band))
    waves = random.standard_normal((2 * most + 1, most + 1, 2)) @ np.array([1, 1j])
    reach = min(most, side // 2 - 1)
    across, down = np.arange(reach + 1), np.arange(-reach, reach + 1)
    octave = np.log2(np.maximum(np.hypot(down[:, None], across[None, :]), 1e-9) / 2)
    share = np.clip(1 - np.abs(np.maximum(octave, 0) - band), 0, 1)  # of the power; the first band has all below it
    share[reach, 0] = 0  # no mean
    spectrum = np.zeros((side, side // 2 + 1), complex)
    spectrum[down[:, None], across[None, :]] = (
        waves[most - reach : most + reach + 1, : reach + 1] * np.sqrt(share) / 2.0**octave
    )
    return (np.fft.irfft2(spectrum, (side, side)) * side**2 / 8).astype(np.float32)


@compile_kernel
def _weigh_bands(weights: np.ndarray, variances: np.ndarray, exponent: float, scale: float, lean: float) -> None:
    """Fill in the weights of bands for an exponent: variance 1 in all; bands coarser than the scale are left out."""
    total = 0.0
    for b in range(len(weights)):
        inside = min(1.0, max(0.0, b + 1 + np.log2(scale)))
        weights[b] = inside * 2.0 ** (-b * (exponent + lean - 1))
        total += weights[b] * weights[b] * variances[b]
    for b in range(len(weights)):
        weights[b] /= np.sqrt(max(total, 1e-12))


@compile_kernel
def _add_bands(
    line: np.ndarray, values: np.ndarray, weights: np.ndarray, i: int, seed: int, channel: int, bands: int
) -> None:
    """Add line i of the first bands, each cut out of its tile at a place of its own."""
    size = len(line)
    for b in range(bands):
        down = int(noise(b, 2 * channel, seed) * (size + 1))
        across = int(noise(b, 2 * channel + 1, seed) * (size + 1))
        weight = np.float32(weights[b] if noise(b, 90 + channel, seed) < 0.5 else -weights[b])
        band = values[b, down + i, across : across + size]
        for j in range(size):
            line[j] += weight * band[j]


@compile_kernel
def _paint_noise(
    image: np.ndarray,
    colour: np.ndarray,
    values: np.ndarray,
    weights: np.ndarray,
    seed: int,
    lines: np.ndarray,
    strength: tuple[float, float],
) -> None:
    """Paint noise around a colour; strengths of brightness and of hue, the weights (2, bands) of both."""
    bands = len(values)
    fine = max(1, bands - SMOOTH_BANDS)
    bright, chroma = np.float32(strength[0]), np.float32(strength[1])
    for i in range(len(image)):
        lines[:] = 0
        _add_bands(lines[0], values, weights[0], i, seed, 0, bands)
        if chroma > 0:
            _add_bands(lines[1], values, weights[1], i, seed, 1, fine)
            _add_bands(lines[2], values, weights[1], i, seed, 2, fine)
        _mix_line(lines, colour, bright, chroma)
        for j in range(len(image)):
            image[i, j, 0], image[i, j, 1], image[i, j, 2] = int(lines[0, j]), int(lines[1, j]), int(lines[2, j])


@compile_kernel
def _mix_line(lines: np.ndarray, colour: np.ndarray, bright: float, chroma: float) -> None:
    """Turn brightness and two differences of colour, (3, S) float32, into red, green and blue, 0 to 255."""
    red, green, blue = colour[0], colour[1], colour[2]
    half, most, none = np.float32(0.5), np.float32(255), np.float32(0)
    red_cr, green_cr = np.float32(RED_CR) * chroma, np.float32(GREEN_CR) * chroma
    green_cb, blue_cb = np.float32(GREEN_CB) * chroma, np.float32(BLUE_CB) * chroma
    first, second, third = lines[0], lines[1], lines[2]
    for j in range(len(first)):
        tone, cr, cb = np.float32(1) + bright * first[j], second[j], third[j]
        first[j] = min(most, max(none, red * tone + red_cr * cr)) + half
        second[j] = min(most, max(none, green * tone + green_cr * cr + green_cb * cb)) + half
        third[j] = min(most, max(none, blue * tone + blue_cb * cb)) + half


@compile_kernel
def _byte(value: float) -> int:
    return int(min(np.float32(255), max(np.float32(0), value)) + np.float32(0.5))


# --- dead leaves ------------------------------------------------------------------------------------------------------


class Litter(NamedTuple):
    """Leaves that lie about, for some scales: which colour each pixel shows, and at rims which one below it."""

    top: np.ndarray  # (scales, 3 S, 3 S) uint8: index of a colour
    below: np.ndarray  # the same, of what the uppermost leaf lies on where its rim is
    share: np.ndarray  # (scales, 3 S, 3 S) uint8: how much of the pixel the uppermost one covers, of 255


NO_LITTER = Litter(*np.zeros((3, 0, 0, 0), np.uint8))


@lru_cache(maxsize=4)
def leaf_litter(size: int) -> Litter:
    """The leaves of pictures of a size: a picture cuts out a place of them, and gives each a colour of its own."""
    side = LITTER * size
    litter = Litter(*(np.zeros((SCALES, side, side), np.uint8) for _ in Litter._fields))
    for step in range(SCALES):
        scale = SMALLEST_SCALE ** (1 - step / (SCALES - 1))
        most = LEAST_RADIUS + scale * (MOST_RADIUS - LEAST_RADIUS)
        _scatter(litter.top[step], litter.below[step], litter.share[step], size, most, LITTER_SEED + step)
    return litter


@compile_kernel
def _scatter(top: np.ndarray, below: np.ndarray, share: np.ndarray, size: int, most: float, seed: int) -> None:
    """Let discs fall on each other: the last that covers a pixel's centre owns it, and rims are smoothed."""
    side = len(top)
    least, width = LEAST_RADIUS, side / size
    mean_square = 2 * np.log(most / least) / (1 / least**2 - 1 / most**2)
    count = int(LAYERS * width * width / (np.pi * mean_square)) + 1
    discs, owner = np.zeros((count, 3)), np.zeros((side, side), np.int32)
    for k in range(1, count):  # number 0 is the ground
        radius = least / np.sqrt(1 - noise(k, 0, seed) * (1 - (least / most) ** 2))
        discs[k, 0] = size * ((width + 2 * radius) * noise(k, 1, seed) - radius)
        discs[k, 1] = size * ((width + 2 * radius) * noise(k, 2, seed) - radius)
        discs[k, 2] = size * radius
        _drop(owner, k, discs[k, 0], discs[k, 1], discs[k, 2])
    for i in range(side):
        for j in range(side):
            upper, lower, cover = _look_at_rim(owner, discs, i, j)
            top[i, j], below[i, j], share[i, j] = upper & 255, lower & 255, cover


@compile_kernel
def _drop(owner: np.ndarray, k: int, x: float, y: float, radius: float) -> None:
    """Let disc k, in pixels, own every pixel whose centre it covers."""
    side = len(owner)
    for i in range(max(0, int(np.ceil(y - radius - 0.5))), min(side - 1, int(np.floor(y + radius - 0.5))) + 1):
        dy = i + 0.5 - y
        half = np.sqrt(max(0.0, radius * radius - dy * dy))
        for j in range(max(0, int(np.ceil(x - half - 0.5))), min(side - 1, int(np.floor(x + half - 0.5))) + 1):
            owner[i, j] = k


@compile_kernel
def _look_at_rim(owner: np.ndarray, discs: np.ndarray, i: int, j: int) -> tuple[int, int, int]:
    """The uppermost disc at a pixel or beside it, what is below, and the share of the pixel that it covers, of 255."""
    last, here = len(owner) - 1, owner[i, j]
    above, under = owner[max(0, i - 1), j], owner[min(last, i + 1), j]
    left, right = owner[i, max(0, j - 1)], owner[i, min(last, j + 1)]
    top = max(max(above, under), max(max(left, right), here))
    below = min(min(above, under), min(min(left, right), here)) if top == here else here
    if top == below:
        return top, top, 255
    distance = np.sqrt((j + 0.5 - discs[top, 0]) ** 2 + (i + 0.5 - discs[top, 1]) ** 2)
    return top, below, int(255 * min(1.0, max(0.0, discs[top, 2] + 0.5 - distance)) + 0.5)


@compile_kernel
def _paint_leaves(
    image: np.ndarray, colour: np.ndarray, litter: Litter, seed: int, scale: float, contrast: float, hues: float
) -> None:
    """Paint a place of the litter, mirrored or not, each leaf in a colour of its own around a colour."""
    leaf, palette = np.empty(3, np.int64), np.empty(256, np.int64)
    for k in range(256):
        _choose_colour(leaf, colour, k, seed, LEAF_BRIGHTNESS * contrast, LEAF_CHROMA * contrast * hues)
        palette[k] = leaf[0] | leaf[1] << 20 | leaf[2] << 40  # so that one product is that of all three
    size, room = len(image), litter.top.shape[1] - len(image) + 1
    step = int(min(1.0, max(0.0, 1 - np.log(scale) / np.log(SMALLEST_SCALE))) * (SCALES - 1) + 0.5)
    down, across = int(noise(0, 1, seed) * room), int(noise(0, 2, seed) * room)
    over, turned = noise(0, 6, seed) < 0.5, noise(0, 7, seed) < 0.5
    for i in range(size):
        y = down + (size - 1 - i if over else i)
        tops, belows = litter.top[step, y, across : across + size], litter.below[step, y, across : across + size]
        shares = litter.share[step, y, across : across + size]
        for j in range(size):
            x = size - 1 - j if turned else j
            share = np.int64(shares[x]) + (shares[x] >> 7)  # of 256
            mixed = share * palette[tops[x]] + (256 - share) * palette[belows[x]] + HALVES
            image[i, j, 0], image[i, j, 1], image[i, j, 2] = mixed >> 8 & 255, mixed >> 28 & 255, mixed >> 48 & 255


@compile_kernel
def _choose_colour(leaf: np.ndarray, colour: np.ndarray, k: int, seed: int, bright: float, chroma: float) -> None:
    """Choose the colour of leaf k: around the ground's in brightness and hue, evenly, within the bytes."""
    spread = np.sqrt(12.0)
    tone = 1 + bright * spread * (noise(k, 3, seed) - 0.5)
    cr, cb = chroma * spread * (noise(k, 4, seed) - 0.5), chroma * spread * (noise(k, 5, seed) - 0.5)
    leaf[0] = _byte(colour[0] * tone + RED_CR * cr)
    leaf[1] = _byte(colour[1] * tone + GREEN_CR * cr + GREEN_CB * cb)
    leaf[2] = _byte(colour[2] * tone + BLUE_CB * cb)


# --- photographs ------------------------------------------------------------------------------------------------------


@compile_kernel
def _paint_crop(image: np.ndarray, source: np.ndarray, crop: np.ndarray, line: np.ndarray) -> None:
    """Paint the crop of a picture (h, w, 3) uint8, bilinear, in whole numbers: weights are counted in 256ths."""
    size, height, width = len(image), source.shape[0], source.shape[1]
    left, right = np.empty(size, np.int64), np.empty(size, np.int32)
    for j in range(size):
        near, share = _find_place(crop[0], crop[2] / size, j, width)
        place = size - 1 - j if crop[3] else j
        left[place], right[place] = 3 * near, share
    first, last = left.min(), left.max() + 6
    for i in range(size):
        upper, low = _find_place(crop[1], crop[2] / size, i, height)
        above, below = source[upper].reshape(-1), source[upper + 1].reshape(-1)
        _mix_lines(line[first:last], above[first:last], below[first:last], np.uint16(256 - low), np.uint16(low))
        target = image[i].reshape(-1)
        for j in range(size):
            k, share = left[j], right[j]
            for c in range(3):
                near, far = np.int32(line[k + c]), np.int32(line[k + 3 + c])
                target[3 * j + c] = ((near << 8) + share * (far - near) + 32768) >> 16


@compile_kernel
def _mix_lines(line: np.ndarray, above: np.ndarray, below: np.ndarray, high: np.uint16, low: np.uint16) -> None:
    """Fill in the weighted sum of two lines of bytes, uint16: weights are counted in 256ths."""
    for j in range(len(line)):
        line[j] = np.uint16(above[j]) * high + np.uint16(below[j]) * low


@compile_kernel
def _find_place(start: float, step: float, i: int, length: int) -> tuple[int, int]:
    """The pixel of a source before the middle of pixel i, and the share of the one that follows, in 256ths."""
    place = min(max(start + (i + 0.5) * step - 0.5, 0.0), length - 1.0)
    near = min(int(place), length - 2)
    return near, int(256 * (place - near) + 0.5)


@compile_kernel
def _change_contrast(image: np.ndarray, mean: np.ndarray, contrast: float) -> None:
    """Spread the colours of a picture around a mean colour, or draw them nearer to it."""
    table = np.empty((256, 3), np.uint8)
    for value in range(256):
        for c in range(3):
            table[value, c] = _byte(np.float32(mean[c] + contrast * (value - mean[c])))
    for i in range(len(image)):
        for j in range(len(image)):
            for c in range(3):
                image[i, j, c] = table[image[i, j, c], c]


@compile_kernel
def _paint_rows(
    images: np.ndarray,
    kind: np.ndarray,
    colours: np.ndarray,
    seeds: np.ndarray,
    ground: Ground,
    tiles: Tiles,
    litter: Litter,
    start: int,
    stop: int,
) -> None:
    """Paint the grounds of the rows from start to stop, reusing one set of buffers."""
    size = images.shape[1]
    lines = np.empty((3, size), np.float32)
    widest = ground.frames[:, 2].max() if len(ground.frames) else 0
    weights, line, colour = np.empty((2, len(tiles.values))), np.empty(3 * widest, np.uint16), np.empty(3, np.float32)
    for row in range(start, stop):
        if kind[row] < FIRST:
            continue
        contrast, hues, scale, seed = ground.contrast[row], ground.hues[row], ground.scale[row], seeds[row]
        for c in range(3):
            colour[c] = colours[row, c]
        if kind[row] == NOISE:
            _weigh_bands(weights[0], tiles.variances, ground.exponent[row], scale, 0.0)
            _weigh_bands(weights[1], tiles.variances, ground.exponent[row], scale, 0.25)
            strength = (BRIGHTNESS * contrast, CHROMA * contrast * hues)
            _paint_noise(images[row], colour, tiles.values, weights, seed, lines, strength)
        elif kind[row] == LEAVES:
            _paint_leaves(images[row], colour, litter, seed, scale, contrast, hues)
        else:
            begin, height, width = ground.frames[ground.frame[row]]
            source = ground.pixels[begin : begin + 3 * height * width].reshape((height, width, 3))
            _paint_crop(images[row], source, ground.crop[row], line)
            if contrast != 1.0:
                _change_contrast(images[row], ground.means[ground.frame[row]], contrast)
