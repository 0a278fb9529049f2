"""Growing strands: each follows the directions of a comb around the base head.

A strand leaves its root along the skin's normal, bends into the direction that its style combs, falls, and slides along
the head at a height of its own, so that the layers of a hairdo do not collapse on the scalp; the distance to the head
is hull.py's. Every way that is walked carries two strands side by side, which halves the cost; locks.py lays them.
"""

import numpy as np

from datasets.faces.comb import Comb, cut_at, direction, face_opening
from datasets.faces.compiled import kernel
from datasets.faces.hairline import parting_at
from datasets.faces.hull import distance
from datasets.faces.locks import Grown, lay

CHANCES = 8  # random numbers of a strand, and of a lock
TWIN = 0.0035  # metres between two strands of one way
LOWEST = 0.0015  # metres above the skin
WAY = 8  # of a place on the way: x, y, z, outward normal, distance along the strand, height


@kernel
def grow_strands(
    roots: np.ndarray,
    shift: np.ndarray,
    edge: np.ndarray,
    lock: np.ndarray,
    lock_root: np.ndarray,
    chance: np.ndarray,
    lock_chance: np.ndarray,
    comb: Comb,
    grid: np.ndarray,
    moved: np.ndarray,
    out: Grown,
) -> None:
    """Grows 2 n strands of k points into `out`: points and outward float32 [2 n, k, 3], depth and follows [2 n, k].

    Strand 2 i grows at root i, and strand 2 i + 1 within TWIN of it.

    roots   float32 [n, 3] metres on the base head; shift float32 [n, 3]: what a root's carried place lacks to the
            person's own skin
    edge    float32 [n] metres above the hairline, where hair is thin
    lock    int32 [n], of the lock that a strand belongs to; lock_root float32 [m, 3] metres
    chance  float32 [n, CHANCES] and lock_chance float32 [m, CHANCES], uniform in 0 to 1
    grid    Hull.distance; moved: Hull.displacement
    """
    k = out.points.shape[1]
    way = np.empty((k, WAY), np.float32)
    reach = (np.arange(k) / (k - 1)) ** comb.finer  # shares of a strand's length at which its points lie
    for i in range(len(roots)):
        own, mine = chance[i], lock_chance[lock[i]]
        ends = _walk(roots[i], edge[i], own, mine, comb, grid, reach, way)
        nx, ny, nz = way[0, 3], way[0, 4], way[0, 5]
        for twin in range(2):
            # The twin's root: a step along the skin, and no further than to the hairline.
            far = twin * min(TWIN, max(edge[i], 0.0))
            angle = 6.2832 * own[6]
            wx, wy, wz = far * np.cos(angle), far * np.sin(angle) * 0.8, far * np.sin(angle + 1.0)
            into = wx * nx + wy * ny + wz * nz
            off = (wx - into * nx, wy - into * ny, wz - into * nz)
            at = 2 * i + twin
            one = Grown(out.points[at], out.outward[at], out.depth[at], out.follows[at])
            lay(way, ends, roots[i], lock_root[lock[i]], off, shift[i], own, mine, comb, moved, one)


@kernel
def _walk(
    root: np.ndarray,
    edge: float,
    own: np.ndarray,
    mine: np.ndarray,
    comb: Comb,
    grid: np.ndarray,
    reach: np.ndarray,
    way: np.ndarray,
) -> float:
    """Writes the way of a strand; returns the fractional index at which it ends."""
    k = len(way)
    x, y, z = root[0], root[1], root[2]
    side = 1.0 if x > parting_at(comb.part, z) + 0.005 * (own[0] - 0.5) else -1.0
    layer = 0.06 + 0.94 * own[1] ** 1.4
    height = comb.volume * layer * min(0.2 + max(edge, 0.0) * 28.0, 1.0) * (0.75 + 0.5 * mine[1])
    top = min(max((y - 0.735) * 16.0, 0.0), 1.0)
    fringe = own[3] < comb.fringe and z > 0.050 + 0.03 * mine[3] and y > 0.770 and abs(x) < 0.054
    length = comb.length * (comb.side_length + (1.0 - comb.side_length) * top)
    length *= min(comb.edge_length + (1.0 - comb.edge_length) * max(edge, 0.0) * 20.0, 1.0)
    if fringe:
        length = max(length, 0.14)
    if comb.globe > 0.0:
        length *= min(max((comb.globe - np.sqrt(x * x + (y - 0.765) ** 2 + (z - 0.04) ** 2)) / length, 0.35), 1.0)
    length *= 1.0 - comb.ragged * (0.6 * mine[2] + 0.4 * own[2])
    wander = (mine[4] - 0.5) * comb.wander
    window = 0.0 if fringe else comb.window * (0.92 + 0.16 * own[4] + 0.14 * mine[3])
    uneven = comb.cut_spread * (0.7 * mine[5] + 0.3 * own[5] - 0.5)
    tuck = comb.tuck_left if x > 0.0 else comb.tuck_right
    fall = (
        (comb.fall_left if x > 0.0 else comb.fall_right) + 0.5 * (mine[6] - 0.5) + min(max(8.0 * z - 0.16, -0.6), 0.6)
    )
    raised = comb.lift * (0.35 + 0.65 * top) if comb.globe == 0.0 else comb.lift
    d, gx, gy, gz = distance(grid, x, y, z)
    dx, dy, dz = gx, gy, gz
    into = max(0.0003 - d, 0.0)
    x, y, z = x + into * gx, y + into * gy, z + into * gz
    lift_fade, climb, stiff = 0.4 / comb.lift_reach, 1.0 / comb.ramp, 1.0 / comb.bend
    along = 0.0
    for step in range(k):
        way[step, 0], way[step, 1], way[step, 2] = x, y, z
        way[step, 3], way[step, 4], way[step, 5] = gx, gy, gz
        way[step, 6], way[step, 7] = along, d
        if step == k - 1:
            break
        if step > 0 and comb.tie > 0.0 and x * x + (comb.tie_y - y) ** 2 + (comb.tie_z - z) ** 2 < 2e-4:
            return float(step)
        ds = length * reach[step + 1] - along
        goal = _height(comb, height * min(along * climb + 0.05, 1.0), layer, fringe, x, y, z)
        # Hair that has left the head is no longer combed: it falls.
        loose = min(max((d - goal - 0.003) * 70.0, 0.0), 1.0) * comb.droop
        fx, fy, fz = direction(comb, x, y, z, gx, gy, gz, side, fringe, wander)
        fx *= 1.0 - 0.8 * loose
        fy = fy * (1.0 - 0.8 * loose) - loose
        fz *= 1.0 - 0.8 * loose
        lift = raised * max(1.0 - along * lift_fade, 0.0) ** 2
        if comb.globe > 0.0:
            scale = lift / np.sqrt(x * x + (y - 0.765) ** 2 + (z - 0.04) ** 2)
            fx += scale * x
            fy += scale * (y - 0.765)
            fz += scale * (z - 0.04) * (0.55 if z > 0.09 else 1.0)
        else:
            fx += lift * gx
            fy += lift * gy
            fz += lift * gz * (0.4 if z > 0.09 else 1.0)  # up, not forwards, at the forehead
        if tuck > 0.0 and 0.67 < y < 0.775 and abs(x) > 0.05:
            fz -= tuck * min(max((z - 0.005) * 40.0, 0.0), 1.0)
        if y < 0.66:
            fz += fall * min((0.66 - y) * 12.0, 1.0) * min(max(1.0 - (d - goal) * 30.0, 0.15), 1.0)
        into = fx * gx + fy * gy + fz * gz
        if d < goal + 0.001:
            pull = min(into, 0.0)
        else:
            pull = comb.close * min((d - goal) * 30.0, 1.0)
            if fringe:
                pull += 1.5 * min((d - goal) * 80.0, 1.0)
        fx -= pull * gx
        fy -= pull * gy
        fz -= pull * gz
        if y < 0.60 and d < goal + 0.01:
            fx *= 0.35  # off the shoulders forwards or backwards, not along them
        opening = 0.0
        if window > 0.0 and z > 0.035:
            opening = window * face_opening(y)
            if abs(x) < opening:
                out = side if abs(x) < 0.02 else np.sign(x)
                fx += out * min((opening - abs(x)) * 90.0 + 0.3, 2.0)
        scale = 1.0 / np.sqrt(fx * fx + fy * fy + fz * fz + 1e-12)
        turned = ds * stiff
        keep = 1.0 / (1.0 + turned * (1.0 + 0.5 * turned))
        dx = dx * keep + fx * scale * (1.0 - keep)
        dy = dy * keep + fy * scale * (1.0 - keep)
        dz = dz * keep + fz * scale * (1.0 - keep)
        scale = ds / np.sqrt(dx * dx + dy * dy + dz * dz + 1e-12)
        x += dx * scale
        y += dy * scale
        z += dz * scale
        if opening > 0.0 and abs(x) < 0.95 * opening and along > 0.015:
            x += 0.5 * (opening - abs(x)) * (side if abs(x) < 0.02 else np.sign(x))
        along += ds
        d, gx, gy, gz = distance(grid, x, y, z)
        if d < goal or comb.stick > 0.0:
            rise = goal - d if d < goal else comb.stick * (goal - d)
            x += rise * gx
            y += rise * gy
            z += rise * gz
            d += rise
            into = min(dx * gx + dy * gy + dz * gz, 0.0)
            dx -= into * gx
            dy -= into * gy
            dz -= into * gz
        cut = cut_at(comb, x, z, fringe) + uneven
        if y < cut and along > 0.006:
            way[step + 1, 0], way[step + 1, 1], way[step + 1, 2] = x, y, z
            way[step + 1, 3], way[step + 1, 4], way[step + 1, 5] = gx, gy, gz
            way[step + 1, 6], way[step + 1, 7] = along, d
            before = way[step, 1]
            return step + (min((before - cut) / (before - y), 1.0) if before > cut else 0.3 if step == 0 else 0.0)
    return float(k - 1)


@kernel
def _height(comb: Comb, height: float, layer: float, fringe: bool, x: float, y: float, z: float) -> float:
    """How high above the head a strand rides at a place, of its own height."""
    goal = height * (0.45 + 0.55 * min(max((y - 0.70) * 12.0, 0.0), 1.0))
    if comb.aside > 0.0 and y > 0.78:
        # Flat over the parting, so that the two sides make one round head.
        off = x - parting_at(comb.part, z)
        goal = min(goal, 0.007 + 5.0 * off * off)
    if fringe:
        goal *= 1.0 - 0.75 * min(max((0.83 - y) * 30.0, 0.0), 1.0)  # close on the forehead
    elif z > 0.08:
        goal *= 1.0 - 0.6 * min((z - 0.08) * 18.0, 1.0)  # no visor
    if comb.over_ears > 0.0 and abs(x) > 0.045:
        ey, ez = (y - 0.712) * (1.0 / 0.034), (z - 0.050) * (1.0 / 0.026)
        goal += comb.over_ears * (0.6 + 0.4 * layer) * max(1.0 - 0.33 * (ey * ey + ez * ez), 0.0)
    # Below the neck it lies on clothes.
    return max(goal, LOWEST + (0.011 + 0.005 * layer) * min(max((0.60 - y) * 25.0, 0.0), 1.0))
