"""A labeller's habits: the classes drawn larger or smaller than what is seen, as people draw them."""

from collections.abc import Mapping

import cv2
import numpy as np

from datasets.classes import FACE_CLASSES


def redraw(labels: np.ndarray, grow: Mapping[str, float]) -> np.ndarray:
    """Labels uint8 [N, N] of the nine classes as a labeller with these habits draws them.

    grow  class name to thousandths of the picture's width by which its outline moves outward; inward below zero, where
          the nearest other class takes its place. Applied in the mapping's order.
    """
    out = labels.copy()
    for name, amount in grow.items():
        own = out == FACE_CLASSES.index(name)
        reach = abs(amount) * labels.shape[1] / 1000
        if not amount or not own.any() or own.all():
            continue
        # Distances are from pixel centre to pixel centre: an outline that moves by `reach` takes centres within it.
        if amount > 0:
            away = cv2.distanceTransform((~own).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
            out[away <= reach] = FACE_CLASSES.index(name)
        else:
            depth, nearest = cv2.distanceTransformWithLabels(
                own.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
            )
            others = np.zeros(int(nearest.max()) + 1, np.uint8)
            others[nearest[~own]] = out[~own]
            lost = own & (depth <= reach)
            out[lost] = others[nearest[lost]]
    return out
