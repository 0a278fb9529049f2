"""Fine pixels to pixels: coverage, the majority's label, and what belongs to it."""

import numpy as np

from datasets.faces.compiled import kernel


@kernel
def resolve(color, normals, segments, labels, near, factor):  # type: ignore[no-untyped-def]
    """Averages blocks of factor x factor fine pixels; segment 0 is the background.

    color float32 [N, N, 3] linear; normals float32 [N, N, 3]; segments, labels uint8 [N, N]; near float32 [N, N]

    Returns, for N / factor = S: the mean colour of the covered part float32 [S, S, 3], alpha float32 [S, S], the most
    frequent segment and label uint8 [S, S] (of equally frequent ones the lower), and the mean depth float32 [S, S] in
    metres and unit normal float32 [S, S, 3] of that segment's fine pixels, 0 on the background.
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
                    segment = segments[r, c]
                    votes[segment] += 1
                    if segment > 0:
                        covered += 1
                        for k in range(3):
                            out[row, column, k] += color[r, c, k]
            best = 0
            for i in range(factor):
                for j in range(factor):
                    segment = segments[row * factor + i, column * factor + j]
                    if votes[segment] > votes[best] or (votes[segment] == votes[best] and segment < best):
                        best = segment
            for i in range(factor):
                for j in range(factor):
                    votes[segments[row * factor + i, column * factor + j]] = 0
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
            top = labels[row * factor, column * factor]
            for i in range(factor):
                for j in range(factor):
                    votes[labels[row * factor + i, column * factor + j]] += 1
            for i in range(factor):
                for j in range(factor):
                    given = labels[row * factor + i, column * factor + j]
                    if votes[given] > votes[top] or (votes[given] == votes[top] and given < top):
                        top = given
            for i in range(factor):
                for j in range(factor):
                    votes[labels[row * factor + i, column * factor + j]] = 0
            label[row, column] = top
    return out, alpha, kept, label, depth, normal
