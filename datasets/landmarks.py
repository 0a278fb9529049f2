"""The face landmarks of the iBUG group: 68 points, or the inner 51 of them, and what each of them is.

The 51 are 17 to 67 of the 68, in the same order; the first 17 go along the jaw. Sides are the image's: point 36 is the
outer corner of the eye on the image's left. (Sagonas et al. 2016, figure 1; there the points count from 1.)
"""

NUM_JAW = 17

# Names of the 68 by region; each region is the half-open range of its points.
REGIONS = {"jaw": (0, 17), "brows": (17, 27), "nose": (27, 36), "eyes": (36, 48), "mouth": (48, 68)}
EYES = ((36, 42), (42, 48))
OUTER_CORNERS = (36, 45)  # of the eyes: their distance is the inter-ocular distance of the 300-W challenge

# Pairs of the 68 that a mirror exchanges; a point without one is its own.
_PAIRS = (
    *((k, 16 - k) for k in range(8)),
    *((17 + k, 26 - k) for k in range(5)),
    *((31, 35), (32, 34)),
    *((36, 45), (37, 44), (38, 43), (39, 42), (40, 47), (41, 46)),
    *((48, 54), (49, 53), (50, 52), (55, 59), (56, 58)),
    *((60, 64), (61, 63), (65, 67)),
)


def first_of(num_points: int) -> int:
    """Which of the 68 the first of `num_points` is: 0 for 68, 17 for 51. Raises ValueError for another number."""
    if num_points not in (51, 68):
        raise ValueError(f"the number of landmarks must be 51 or 68, but is {num_points}")
    return 68 - num_points


def flip_order(num_points: int) -> tuple[int, ...]:
    """The permutation of a mirror: point k of the mirrored face is point flip_order[k] of the face, mirrored."""
    first = first_of(num_points)
    order = list(range(68))
    for left, right in _PAIRS:
        order[left], order[right] = right, left
    return tuple(k - first for k in order[first:])
