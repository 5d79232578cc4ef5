"""Scenes: the factors of a row turned into a set of ellipsoids, a light and a backdrop.

The plant is built on a turntable that already faces the camera: x runs to the right, y away from the viewer, z up, the
foot at the origin. The camera then lays it into the picture: x right, y up, z towards the viewer, edges at -1 and 1.
Balls and tag are placed in the picture directly. Framing depends on the view's factors alone: no part moves another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .factors import COLOURS, PARTS
from .scenery import BACKDROPS, SCRAMBLE, Ground, empty_ground

if TYPE_CHECKING:
    from .album import Album

MATERIALS = ("petal", "disc", "stem", "leaf", "clay", "soil", "ball", "label")

HEIGHT = 1.0  # of the stem; all lengths are in the same unit
NECK = 0.76  # share of the height from which the stem leans back to meet the head
SEGMENTS = 7  # ellipsoids of a stem
OVERLAP = 1.7  # half their length in units of their spacing: at 1.7 a stem's waists are 4 % of its width
FILL = 0.83  # share of the picture's height that a tall plant takes at scale 1
WHOLE = (2.0, 0.0)  # an outline that cuts nothing off

PETAL_SHAPES = {b"round": (0.215, 0.175, 0.040), b"oval": (0.245, 0.130, 0.034), b"long": (0.270, 0.078, 0.028)}
LEAF_SHAPES = {b"round": (0.190, 0.150, 0.026), b"oval": (0.230, 0.110, 0.024), b"long": (0.280, 0.070, 0.022)}
POT_SHAPES = {  # body, foot, rim, soil: height of the centre, radius, half of the thickness
    b"bowl": ((0.150, 0.270, 0.150), (0.020, 0.165, 0.030), (0.268, 0.250, 0.034), (0.286, 0.205, 0.024)),
    b"vase": ((0.170, 0.205, 0.170), (0.020, 0.140, 0.030), (0.330, 0.180, 0.030), (0.346, 0.140, 0.022)),
}
POT_TONES = np.array([1.0, 0.85, 1.08, 1.0])  # a rim catches the light, a foot does not
SOIL = (0.055, 0.036, 0.026)
GREY_AXIS = np.tile([0.213, 0.715, 0.072], (3, 1))  # brightness of red, green and blue
HUE_COSINE = np.eye(3) - GREY_AXIS
HUE_SINE = np.array([[-0.213, -0.715, 0.928], [0.143, 0.140, -0.283], [-0.787, 0.715, 0.072]])


class Scenes(NamedTuple):
    """Scenes of n rows, with m ellipsoids in all; row r owns those from offsets[r] to offsets[r + 1]."""

    offsets: np.ndarray  # (n + 1,) int64
    centre: np.ndarray  # (m, 3) in the picture
    axes: np.ndarray  # (m, 3, 3) half axes: along, across, out of its face
    outline: np.ndarray  # (m, 2) a, b: only |v| <= sqrt(1 - u^2) (a + b u) is there; u along, v across, -1 to 1
    colour: np.ndarray  # (m, 3) linear RGB
    part: np.ndarray  # (m,) uint8 index into PARTS
    material: np.ndarray  # (m,) uint8 index into MATERIALS
    light: np.ndarray  # (n, 3) unit vector towards the light
    strength: np.ndarray  # (n,) of the light
    up: np.ndarray  # (n, 3) the world's up
    backdrop: np.ndarray  # (n, 3) linear RGB
    kind: np.ndarray  # (n,) uint8 index into BACKDROPS
    texture: np.ndarray  # (n,) int64 seed
    shadow: np.ndarray  # (n, 5) x, y, half width, half height, darkness of the contact shadow
    ground: Ground = empty_ground(0)  # what else lies behind, where a kind says so


class Pieces(NamedTuple):
    """Ellipsoids of one part, k slots per row; a slot that is not present is left out."""

    part: str
    material: str | Sequence[str]
    present: np.ndarray  # (n, k) bool
    centre: np.ndarray  # (n, k, 3)
    axes: np.ndarray  # (n, k, 3, 3)
    colour: np.ndarray  # broadcasts to (n, k, 3)
    outline: tuple[float, float] = WHOLE


class HeadFrame(NamedTuple):
    """The origin of the flower's head and its three directions, each (n, 1, 3)."""

    origin: np.ndarray
    down: np.ndarray
    side: np.ndarray
    look: np.ndarray


class Camera(NamedTuple):
    """How the turntable is mapped into the picture: elevation, scale and shift, each (n,)."""

    sine: np.ndarray  # of the elevation
    cosine: np.ndarray
    scale: np.ndarray
    x: np.ndarray
    y: np.ndarray


def build(table: np.ndarray, album: Album | None = None) -> Scenes:
    """The scenes of a factors table (n,), in order; a row's scene depends on that row alone.

    Args:
        album: the photographs of the rows' split; wanted if rows lie on photographs.
    """
    camera = camera_of(table)
    pieces = [_lay_into_picture(shape(table), camera) for shape in PLANT] + [shape(table) for shape in IN_PICTURE]
    shadow = contact_shadow(table, camera)
    backdrop = _backdrop(table)
    ground = _ground(table, backdrop["kind"], album)
    return Scenes(**_join(pieces), **_lighting(table, camera), **backdrop, shadow=shadow, ground=ground)


# --- the parts --------------------------------------------------------------------------------------------------------


def petals(table: np.ndarray) -> Pieces:
    """One or two rings of blades around the disc; an inner ring is smaller, steeper and turned by half a step."""
    count, whorls = table["petals.count"][:, None], table["petals.whorls"][:, None]
    rings = int(whorls.max(initial=1))
    slot = np.arange(int(count.max(initial=0)) * rings)[None, :]
    inner, place = slot % rings, slot // rings
    head = head_frame(table)
    turn = _degrees(table["petals.phase"]) + 2 * np.pi * (place + 0.5 * inner) / np.maximum(count, 1)
    outward = _cos(turn)[..., None] * head.down + _sin(turn)[..., None] * head.side
    sideways = _cos(turn)[..., None] * head.side - _sin(turn)[..., None] * head.down
    half = look_up(table["petals.shape"], PETAL_SHAPES)[:, None, :]
    half = half * (table["petals.size"][:, None] * (1 - 0.24 * inner))[..., None]
    foot = head.origin + (0.055 + 0.03 * inner[..., None]) * outward + 0.012 * head.look
    pitch = _degrees(table["petals.opening"]) + np.radians(4.0) + np.radians(14.0) * inner
    centre, axes = _blades(foot, outward, sideways, head.look, pitch, np.radians(9.0), half)
    colour = (
        turn_hue(_colour(table, "petals.colour"), table["petals.hue"])[:, None, :]
        * (1 - 0.05 * (place % 2) - 0.04 * inner)[..., None]
    )
    present = (place < count) & (inner < whorls)
    return Pieces("petals", "petal", present, centre, axes, colour, (0.74, 0.26))


def disc(table: np.ndarray) -> Pieces:
    """The disc: a dome in the middle of the flower's head."""
    head = head_frame(table)
    size = table["disc.size"][:, None, None]
    centre = head.origin + 0.03 * head.look
    axes = np.stack([0.125 * size * head.down, 0.125 * size * head.side, 0.07 * size * head.look], axis=2)
    return Pieces("disc", "disc", _present(table, "disc"), centre, axes, _colour(table, "disc.colour")[:, None, :])


def stem(table: np.ndarray) -> Pieces:
    """A chain of long ellipsoids along the stem's curve, thinner towards the head."""
    spacing = 1 / (SEGMENTS + 2 * OVERLAP - 1)  # so that the first begins at the foot and the last ends in the head
    share = spacing * (np.arange(SEGMENTS + 1) + OVERLAP - 0.5)
    nodes = stem_curve(table, np.broadcast_to(share, (len(table), SEGMENTS + 1)))
    along = np.diff(nodes, axis=1) * OVERLAP
    thickness = 0.034 * table["stem.width"][:, None] * np.linspace(1.1, 0.85, SEGMENTS)
    centre = (nodes[:, 1:] + nodes[:, :-1]) / 2
    present = np.repeat(_present(table, "stem"), SEGMENTS, axis=1)
    return Pieces("stem", "stem", present, centre, _rods(along, thickness), _colour(table, "stem.colour")[:, None, :])


def calyx(table: np.ndarray) -> Pieces:
    """The green cup below the petals in which a stem ends."""
    head = head_frame(table)
    width = 0.034 + 0.034 * table["stem.width"][:, None, None]
    axes = np.stack([width * head.down, width * head.side, np.broadcast_to(0.05 * head.look, head.look.shape)], axis=2)
    centre = head.origin - 0.03 * head.look
    return Pieces("stem", "stem", _present(table, "stem"), centre, axes, _colour(table, "stem.colour")[:, None, :])


def leaves(table: np.ndarray) -> Pieces:
    """Blades that grow out of the stem, each a golden angle further round and a little higher."""
    count = table["leaves.count"][:, None]
    slot = np.arange(int(count.max(initial=0)))[None, :]
    height = np.minimum(table["leaves.height"][:, None] + 0.085 * slot, NECK)
    azimuth = table["leaves.azimuth"][:, None] + 137.5 * slot - table["view.azimuth"][:, None]
    outward, sideways = _level(azimuth), _level(azimuth + 90)
    half = look_up(table["leaves.shape"], LEAF_SHAPES)[:, None, :] * table["leaves.size"][:, None, None]
    half = half * (1 - 0.06 * slot)[..., None]
    upward = np.array([0.0, 0.0, 1.0])
    pitch = np.radians(38.0 - 4.0 * slot)
    foot = stem_curve(table, height)
    centre, axes = _blades(foot, outward, sideways, upward, pitch, 0.0, half)
    return Pieces(
        "leaves", "leaf", slot < count, centre, axes, _colour(table, "leaves.colour")[:, None, :], (0.66, -0.5)
    )


def pot(table: np.ndarray) -> Pieces:
    """A bowl or a vase: body, foot, rim and the soil within."""
    shape = look_up(table["pot.shape"], POT_SHAPES) * table["pot.size"][:, None, None]
    level, radius, thickness = np.moveaxis(shape, 2, 0)
    centre = np.stack([0 * level, 0 * level, level], axis=2)
    axes = np.zeros((*level.shape, 3, 3))
    axes[..., 0, 0] = axes[..., 1, 1] = radius
    axes[..., 2, 2] = thickness
    colour = _colour(table, "pot.colour")[:, None, :] * POT_TONES[:, None]
    colour[:, 3] = SOIL
    present = np.repeat(_present(table, "pot"), 4, axis=1)
    return Pieces("pot", ("clay", "clay", "clay", "soil"), present, centre, axes, colour)


def balls(table: np.ndarray) -> Pieces:
    """Distractors: balls at places of the picture, before or behind the plant."""
    present = np.arange(table["distractors.x"].shape[1]) < table["distractors.count"][:, None]
    centre = np.stack(
        [table["distractors.x"], table["distractors.y"], 3.0 * table["distractors.depth"]],  # beyond the plant's reach
        axis=2,
    )
    axes = 0.095 * table["distractors.size"][..., None, None] * np.eye(3)
    return Pieces("distractors", "ball", present, centre, axes, _colour(table, "distractors.colour"))


def tag(table: np.ndarray) -> Pieces:
    """A small label that faces the camera, in front of everything."""
    centre = np.stack([table["tag.x"], table["tag.y"], np.full(len(table), 6.0)], axis=1)[:, None, :]
    axes = table["tag.size"][:, None, None, None] * np.diag([0.11, 0.075, 0.01])
    return Pieces("tag", "label", _present(table, "tag"), centre, axes, _colour(table, "tag.colour")[:, None, :])


PLANT = (petals, disc, stem, calyx, leaves, pot)  # the parts that stand on the turntable
IN_PICTURE = (balls, tag)  # the parts that are placed in the picture directly


# --- frames of the parts: head, stem, camera --------------------------------------------------------------------------


def head_frame(table: np.ndarray) -> HeadFrame:
    """The top of the stem and the directions of a head that is tilted from the upright; see `head.azimuth`."""
    tilt, azimuth = _degrees(table["head.tilt"]), _degrees(table["head.azimuth"])
    forward = np.stack([_sin(azimuth), -_cos(azimuth), np.zeros_like(azimuth)], axis=2)
    side = np.stack([_cos(azimuth), _sin(azimuth), np.zeros_like(azimuth)], axis=2)
    upward = np.array([0.0, 0.0, 1.0])
    sine, cosine = _sin(tilt)[..., None], _cos(tilt)[..., None]
    origin = np.broadcast_to(HEIGHT * upward, side.shape)
    return HeadFrame(origin, cosine * forward - sine * upward, side, sine * forward + cosine * upward)


def stem_curve(table: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Points (n, k, 3) of the stem at shares (n, k) of its height: bent in the middle, leaning at the neck."""
    bend = 4 * table["stem.bend"][:, None] * share * (1 - share)
    points = bend[..., None] * _level((table["stem.azimuth"] - table["view.azimuth"])[:, None])
    rise = np.maximum(share - NECK, 0) / (1 - NECK)
    lean = -0.5 * (1 - NECK) * rise * rise * (1 - rise)
    points = points + lean[..., None] * (head_frame(table).look * (1.0, 1.0, 0.0))
    points[..., 2] += share
    return HEIGHT * points


def camera_of(table: np.ndarray) -> Camera:
    """An orthographic camera that keeps a whole plant in the picture, whatever its parts."""
    sine, cosine = _sin(np.radians(table["view.elevation"])), _cos(np.radians(table["view.elevation"]))
    top, bottom = HEIGHT * cosine + 0.57, -0.12 * np.abs(sine)
    scale = 2 * FILL / np.maximum(top - bottom, 1.3) * table["view.scale"]
    y = 2 * table["view.y"] - scale * (top + bottom) / 2
    return Camera(sine, cosine, scale, 2 * table["view.x"], y)


def contact_shadow(table: np.ndarray, camera: Camera) -> np.ndarray:
    """The contact shadow under a pot or a stem, (n, 5): x, y, half width, half height, darkness."""
    potted = table["pot.count"] > 0
    width = np.where(potted, look_up(table["pot.shape"], POT_SHAPES)[:, 0, 1] * table["pot.size"] * 1.5, 0.2)
    width = width * camera.scale
    flat = np.maximum(np.abs(camera.sine), 0.07)
    darkness = np.where(potted, 0.62, np.where(table["stem.count"] > 0, 0.5, 0.0))
    return np.stack([camera.x, camera.y, width, width * flat, darkness], axis=1)


# --- shared geometry --------------------------------------------------------------------------------------------------


def _blades(
    foot: np.ndarray,
    outward: np.ndarray,
    sideways: np.ndarray,
    upward: np.ndarray,
    pitch: np.ndarray,
    roll: float,
    half: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Centres and axes of flat ellipsoids that start at a foot, rise by a pitch and roll about their length."""
    rise, level = _sin(pitch)[..., None], _cos(pitch)[..., None]
    along, face = level * outward + rise * upward, level * upward - rise * outward
    across, out = np.cos(roll) * sideways + np.sin(roll) * face, np.cos(roll) * face - np.sin(roll) * sideways
    axes = np.stack(np.broadcast_arrays(along, across, out), axis=2) * half[..., None]
    return foot + axes[..., 0, :], axes


def _rods(along: np.ndarray, thickness: np.ndarray) -> np.ndarray:
    """Axes of round ellipsoids about the half axes (n, k, 3); none of them may lie along y."""
    x, y, z = np.moveaxis(along, 2, 0)
    across = np.stack([z, 0 * y, -x], axis=2) / np.sqrt(x * x + z * z)[..., None]
    out = np.stack([-x * y, x * x + z * z, -y * z], axis=2)
    out = out / np.sqrt((out * out).sum(axis=2, keepdims=True))
    return np.stack([along, across * thickness[..., None], out * thickness[..., None]], axis=2)


def _lay_into_picture(piece: Pieces, camera: Camera) -> Pieces:
    """Move pieces of the plant from the turntable to where the camera sees them in the picture."""
    centre = _turn(piece.centre, camera)
    centre[..., 0] += camera.x[:, None]
    centre[..., 1] += camera.y[:, None]
    return piece._replace(centre=centre, axes=_turn(piece.axes, camera))


def _turn(vectors: np.ndarray, camera: Camera) -> np.ndarray:
    """Rotate vectors (n, ..., 3) to the camera's elevation, and scale them to units of the picture."""
    shape = (-1,) + (1,) * (vectors.ndim - 2)
    sine, cosine = (camera.sine * camera.scale).reshape(shape), (camera.cosine * camera.scale).reshape(shape)
    turned = np.empty_like(vectors)
    turned[..., 0] = vectors[..., 0] * camera.scale.reshape(shape)
    turned[..., 1] = vectors[..., 1] * sine + vectors[..., 2] * cosine
    turned[..., 2] = vectors[..., 2] * sine - vectors[..., 1] * cosine
    return turned


def _join(pieces: Sequence[Pieces]) -> dict[str, np.ndarray]:
    """Join the ellipsoids that are present, row after row, into the arrays of `Scenes`."""
    present = np.concatenate([piece.present for piece in pieces], axis=1)

    def flat(values: Sequence[Any], *shape: int) -> np.ndarray:
        slots = [np.broadcast_to(v, (*p.present.shape, *shape)) for v, p in zip(values, pieces, strict=True)]
        return np.concatenate(slots, axis=1)[present]

    def slots_of(values: Sequence[Any]) -> np.ndarray:
        """Repeat values that hold for every row, (k,) or one for all slots."""
        slots = [np.broadcast_to(v, p.present.shape[1:]) for v, p in zip(values, pieces, strict=True)]
        return np.broadcast_to(np.concatenate(slots).astype(np.uint8), present.shape)[present]

    return {
        "offsets": np.concatenate([[0], np.cumsum(present.sum(axis=1))]),
        "centre": flat([piece.centre for piece in pieces], 3),
        "axes": flat([piece.axes for piece in pieces], 3, 3),
        "outline": flat([piece.outline for piece in pieces], 2),
        "colour": flat([piece.colour for piece in pieces], 3),
        "part": slots_of([PARTS.index(piece.part) for piece in pieces]),
        "material": slots_of([_material_ids(piece.material) for piece in pieces]),
    }


def _material_ids(names: str | Sequence[str]) -> list[int] | int:
    return MATERIALS.index(names) if isinstance(names, str) else [MATERIALS.index(name) for name in names]


def _lighting(table: np.ndarray, camera: Camera) -> dict[str, np.ndarray]:
    """Direction and strength of the light, and the world's up, as the camera sees them."""
    unscaled = camera._replace(scale=np.ones_like(camera.scale))
    azimuth, elevation = np.radians(table["light.azimuth"]), np.radians(table["light.elevation"])
    level = _cos(elevation)
    light = np.stack([level * _sin(azimuth), -level * _cos(azimuth), _sin(elevation)], axis=1)
    up = _turn(np.broadcast_to([0.0, 0.0, 1.0], light.shape), unscaled)
    return {
        "light": _turn(light, unscaled),
        "strength": np.ascontiguousarray(table["light.strength"]),
        "up": np.ascontiguousarray(up),  # of one row or of many the same type, for which the renderer is compiled once
    }


def _backdrop(table: np.ndarray) -> dict[str, np.ndarray]:
    """Colour, kind and texture seed of the background."""
    kind = look_up(table["background.kind"], {name.encode(): i for i, name in enumerate(BACKDROPS)})
    return {
        "backdrop": turn_hue(_colour(table, "background.colour"), table["background.hue"]),
        "kind": kind.astype(np.uint8),
        "texture": table["background.texture"].astype(np.int64),
    }


def _ground(table: np.ndarray, kind: np.ndarray, album: Album | None) -> Ground:
    """Strength, grain and hues of what lies behind the plant, and the crops of photographs."""
    names = ("contrast", "exponent", "scale", "hues")
    columns = {name: np.ascontiguousarray(table[f"background.{name}"], np.float64) for name in names}
    if (kind < SCRAMBLE).all():
        return empty_ground(len(table))._replace(**columns)
    if album is None:
        raise ValueError("rows that lie on photographs are built with the album of their split")
    return empty_ground(len(table))._replace(**columns, **album.lay(table, kind))


# --- numbers ----------------------------------------------------------------------------------------------------------


def look_up(column: np.ndarray, values: Mapping[bytes, Any]) -> np.ndarray:
    """Replace each name of a column (n,) by its value in a mapping: (n, ...)."""
    names, place = np.unique(column, return_inverse=True)
    known = list(values)
    return np.array(list(values.values()))[np.array([known.index(name) for name in names.tolist()], np.int64)[place]]


def linear_rgb(name: str) -> tuple[float, float, float]:
    """A colour of the palette or `#rrggbb` as the light that it reflects, each channel 0 to 1.

    >>> linear_rgb("#ffffff")
    (1.0, 1.0, 1.0)
    """
    digits = COLOURS.get(name, name)[1:]
    shares = (int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4))
    red, green, blue = (s / 12.92 if s <= 0.04045 else ((s + 0.055) / 1.055) ** 2.4 for s in shares)
    return red, green, blue


def _colour(table: np.ndarray, name: str) -> np.ndarray:
    """A column of colours as linear RGB, (n, ..., 3)."""
    column = table[name]
    names, place = np.unique(column, return_inverse=True)
    return np.array([linear_rgb(colour.decode()) for colour in names.tolist()])[place].reshape(*column.shape, 3)


def turn_hue(colours: np.ndarray, degrees: np.ndarray) -> np.ndarray:
    """Turn the hue of linear colours (n, 3) by degrees (n,), brightness kept; what leaves the gamut is cut off at 0.

    Source: the filter hueRotate of SVG 1.1 (W3C 2011, section 15.10), which turns about the axis of greys.
    """
    if not degrees.any():
        return colours
    angle = np.radians(degrees)
    cosine, sine = _cos(angle)[:, None, None], _sin(angle)[:, None, None]
    turned = ((GREY_AXIS + cosine * HUE_COSINE + sine * HUE_SINE) @ colours[..., None])[..., 0]
    return np.where(degrees[:, None] == 0, colours, np.maximum(turned, 0))


def _present(table: np.ndarray, part: str) -> np.ndarray:
    return table[f"{part}.count"][:, None] > 0


def _degrees(column: np.ndarray) -> np.ndarray:
    """Degrees (n,) as radians (n, 1), which broadcast over slots."""
    return np.radians(column)[:, None]


def _level(azimuth: np.ndarray) -> np.ndarray:
    """Unit vectors (..., 3) in the plane of the ground, at angles (...) in degrees from the viewer."""
    angle = np.radians(azimuth)
    return np.stack([_sin(angle), -_cos(angle), np.zeros_like(angle)], axis=-1)


def _sin(angle: np.ndarray) -> np.ndarray:
    """The sine of an angle, rounded, because its last bit differs from machine to machine and scenes must not."""
    return np.round(np.sin(angle), 12)


def _cos(angle: np.ndarray) -> np.ndarray:
    return np.round(np.cos(angle), 12)
