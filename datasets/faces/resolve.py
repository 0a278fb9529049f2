"""Fine pixels to pixels: coverage, the majority's label, and what belongs to it."""

import numpy as np

from datasets.faces.compiled import kernel


@kernel
def resolve(color, normals, segments, labels, near, factor):  # type: ignore[no-untyped-def]
    """Averages blocks of factor x factor fine pixels; segment 0 is the background.

    color float32 [N, N, 3] linear; normals float32 [N, N, 3]; segments, labels uint8 [N, N]; near float32 [N, N]

    Returns, for N / factor = S: the mean colour of the covered part float32 [S, S, 3], alpha float32 [S, S], the most
    frequent segment and label uint8 [S, S], and the mean depth float32 [S, S] in metres and unit normal float32
    [S, S, 3] of that segment's fine pixels, 0 on the background.
    """
    side = near.shape[0] // factor
    out = np.zeros((side, side, 3), np.float32)
    alpha = np.zeros((side, side), np.float32)
    kept = np.zeros((side, side), np.uint8)
    label = np.zeros((side, side), np.uint8)
    depth = np.zeros((side, side), np.float32)
    normal = np.zeros((side, side, 3), np.float32)
    votes = np.zeros(256, np.int64)
    for row in range(side):
        for column in range(side):
            covered = 0
            for i in range(factor):
                for j in range(factor):
                    r, c = row * factor + i, column * factor + j
                    if segments[r, c] > 0:
                        covered += 1
                        for k in range(3):
                            out[row, column, k] += color[r, c, k]
            best = _majority(segments, row, column, factor, votes)
            if covered > 0:
                alpha[row, column] = covered / (factor * factor)
                for k in range(3):
                    out[row, column, k] /= covered
            kept[row, column] = best
            if best > 0:
                count = 0
                for i in range(factor):
                    for j in range(factor):
                        r, c = row * factor + i, column * factor + j
                        if segments[r, c] == best:
                            count += 1
                            depth[row, column] += 1.0 / near[r, c]
                            for k in range(3):
                                normal[row, column, k] += normals[r, c, k]
                depth[row, column] /= count
                length = np.sqrt(
                    normal[row, column, 0] ** 2 + normal[row, column, 1] ** 2 + normal[row, column, 2] ** 2
                )
                for k in range(3):
                    normal[row, column, k] /= max(length, 1e-9)
            # The class is voted for by itself: a labeller's habits may have moved it.
            label[row, column] = _majority(labels, row, column, factor, votes)
    return out, alpha, kept, label, depth, normal


@kernel
def _majority(ids, row, column, factor, votes):  # type: ignore[no-untyped-def]
    """The most frequent id of a block; of equally frequent ones that which comes first from a place that alternates.

    So no class is favoured: with 2 x 2 fine pixels many edges are ties. `votes` int64 [256] is zero before and after.
    """
    count = factor * factor
    for i in range(count):
        votes[ids[row * factor + i // factor, column * factor + i % factor]] += 1
    start = (row + 2 * column) % count
    best = ids[row * factor + start // factor, column * factor + start % factor]
    for k in range(1, count):
        i = (start + k) % count
        given = ids[row * factor + i // factor, column * factor + i % factor]
        if votes[given] > votes[best]:
            best = given
    for i in range(count):
        votes[ids[row * factor + i // factor, column * factor + i % factor]] = 0
    return best
