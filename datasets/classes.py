"""The nine face-parsing classes that every face source is mapped to, and the label of what no class is meant for.

The index in `FACE_CLASSES` is the label. `eye_left` and `eye_right` are sides of the image, not of the subject.
Brows, ears and beards are skin; neck, clothes and headwear are background.
"""

FACE_CLASSES: tuple[str, ...] = (
    "background",
    "skin",
    "eye_left",
    "eye_right",
    "nose",
    "upper_lip",
    "inner_mouth",
    "lower_lip",
    "hair",
)
IGNORE = 255  # of any segmentation: counts in no loss and no metric
