"""How a hairdo runs: the directions in which it is combed at any place around the base head, and where it is cut.

A style is a `Comb`, a tuple of weights and lengths: what they mean is said here once, `styles.py` gives their values,
and `strands.py` follows them.
"""

from typing import NamedTuple

import numpy as np

from datasets.faces.compiled import kernel

CROWN = (0.008, 0.836, -0.012)  # metres on the base head: the whorl


class Comb(NamedTuple):
    """How a style's strands run. Lengths in metres on the base head; directions' weights are relative to each other."""

    length: float  # of the longest strands
    ragged: float = 0.25  # share of the length by which strands differ
    side_length: float = 1.0  # share of the length at the sides and the nape
    edge_length: float = 1.0  # share of the length at the hairline, within 5 cm
    volume: float = 0.02  # height of the outermost strands above the skin
    ramp: float = 0.03  # along a strand, over which it climbs to its height
    lift: float = 1.0  # weight of the skin's normal at the root,
    lift_reach: float = 0.02  # and along the strand, over which it fades
    bend: float = 0.015  # along a strand, over which it takes a new direction
    globe: float = 0.0  # radius of the ball that radial hair fills; 0 is no ball
    whorl: float = 0.0  # weight of away from the crown,
    swirl: float = 0.3  # and of around it, as a share
    back: float = 0.0  # weight of backwards
    aside: float = 0.0  # weight of away from the parting
    forward: float = 0.0  # weight of forwards, on top
    gravity: float = 0.5
    droop: float = 1.0  # how much hair that has left the head falls rather than runs on
    close: float = 0.0  # weight of towards the head, where it recedes from hanging hair
    stick: float = 0.0  # 0 hair may rise from its height .. 1 it is held there
    tie: float = 0.0  # weight of towards the point where hair is tied
    tie_y: float = 0.0
    tie_z: float = 0.0
    part: float = 0.0  # Hair.part
    fringe: float = 0.0  # share of the front strands that fall over the forehead
    fringe_cut: float = 0.745  # height on the base head at which they end
    cut_front: float = 0.0  # heights at which the others end: before the ears,
    cut_ear: float = 0.0  # over the ears,
    cut_nape: float = 0.0  # and behind them
    cut_spread: float = 0.01  # by which these differ between strands
    window: float = 0.0  # width of the opening for the face, about 1; 0 does not hold hair off
    over_ears: float = 0.0  # how far hair that passes an ear stands off for it
    tuck_right: float = 0.0  # weight of towards behind the ear
    tuck_left: float = 0.0
    fall_right: float = 0.0  # below the jaw: -1 behind the shoulder .. 1 before it
    fall_left: float = 0.0
    clump: float = 0.4  # share of the way by which tips gather in their lock
    wave: float = 0.0  # radius of waves and curls,
    pitch: float = 0.05  # and the way along the strand of one turn
    frizz: float = 0.15  # share of the waves that is a strand's own and not its lock's
    wander: float = 0.5  # random turn of a lock's combing
    finer: float = 1.0  # exponent of the points' spacing; above 1 they are closer at the root


@kernel
def direction(
    comb: Comb, x: float, y: float, z: float, gx: float, gy: float, gz: float, side: float, fringe: bool, wander: float
) -> tuple[float, float, float]:
    """Combing and gravity at a place with the head's outward normal (gx, gy, gz); not of unit length.

    side: 1 left of the parting, -1 right of it; fringe: whether the strand falls over the forehead; wander: its turn.
    """
    cx, cy, cz, fall = 0.0, 0.0, -comb.back, comb.gravity
    if comb.whorl > 0.0:
        wx, wy, wz = x - CROWN[0], y - CROWN[1], z - CROWN[2]
        scale = comb.whorl / (np.sqrt(wx * wx + wy * wy + wz * wz) + 0.01)
        cx += (wx + comb.swirl * (gy * wz - gz * wy)) * scale
        cy += (wy + comb.swirl * (gz * wx - gx * wz)) * scale
        cz += (wz + comb.swirl * (gx * wy - gy * wx)) * scale
    if fringe:
        cx += 0.5 * comb.part + 3.0 * x
        cz += 1.0
        fall = max(fall, 0.6)
    else:
        top = min(max((y - 0.755) * 20.0, 0.0), 1.0)
        cx += comb.aside * side * top * min(max((z + 0.03) * 20.0, 0.0), 1.0)
        if z > -0.01:
            cz += comb.forward * top
    if comb.tie > 0.0:
        tx, ty, tz = -x, comb.tie_y - y, comb.tie_z - z
        scale = comb.tie / (np.sqrt(tx * tx + ty * ty + tz * tz) + 1e-6)
        cx += scale * tx
        cy += scale * ty
        cz += scale * tz
    return (
        cx + wander * (gy * cz - gz * cy),
        cy + wander * (gz * cx - gx * cz) - fall,
        cz + wander * (gx * cy - gy * cx),
    )


@kernel
def face_opening(y: float) -> float:
    """Half the width in metres of the opening for the face at a height of the base head."""
    if y > 0.815 or y < 0.545:
        return 0.0
    if y > 0.770:
        return 0.062 * np.sqrt((0.815 - y) * (1.0 / 0.045))
    if y > 0.66:
        return 0.062 + 0.004 * (0.770 - y) * (1.0 / 0.110)
    return 0.022 + 0.044 * (y - 0.545) * (1.0 / 0.115)


@kernel
def cut_at(comb: Comb, x: float, z: float, fringe: bool) -> float:
    """Height on the base head below which the style has no hair."""
    if fringe:
        return comb.fringe_cut - 5.0 * x * x  # longer towards the temples
    if z > 0.070:
        return comb.cut_front
    if z > 0.025:
        return comb.cut_ear
    return comb.cut_nape
