"""One labelled face from a seed, and streams of them.

Everything is evaluated at twice the size. The image is the area average and the labels the majority of each 2x2
block, so a label is what most of its pixel shows. Labels, texture and relief are functions of one canonical position
per pixel (see `head`), hence they agree for any identity, pose and expression.
"""

from collections.abc import Iterator

import cv2
import numpy as np

from datasets.faces import body, camera, features, hair, noise, shade
from datasets.faces.head import Head, meet_curtain, rotation
from datasets.faces.person import DOMAINS, Person, draw_person

SIZES = (16, 1024)  # smallest and largest side, pixels

# Where the frame puts the middle between the eyes and the mouth of an aligned photograph, and how far apart they are.
_ANCHOR = (0.50, 0.612)
_EYES_TO_MOUTH = 0.265


def samples(count: int, *, size: int, domain: str, seed: int) -> Iterator[dict[str, np.ndarray | str]]:
    """`count` labelled faces; sample i depends on (seed, i, domain) alone, whatever `count` is.

    Each is `render`'s columns and "id", such as "studio-7-000012". ValueError as for `render`, and for a negative
    `count`, raised by the call and not by the first sample.
    """
    if count < 0:
        raise ValueError(f"`count` must be 0 or more, but got {count}.")
    _check(seed, size, domain)

    def stream() -> Iterator[dict[str, np.ndarray | str]]:
        for i in range(count):
            words = np.random.SeedSequence((seed, i)).generate_state(1, np.uint64)
            yield {"id": f"{domain}-{seed}-{i:06d}", **render(int(words[0]), size=size, domain=domain)}

    return stream()


def render(seed: int, *, size: int, domain: str) -> dict[str, np.ndarray]:
    """One face: a pure function of its arguments. The person, pose and light do not depend on `size`.

    `seed` is 0 or more and below 2**64, `size` is the side in pixels (16..1024), `domain` one of `DOMAINS`.
    Returns "image" uint8 [size, size, 3] RGB, "segmentation" uint8 [size, size] of `datasets.classes.FACE_CLASSES`,
    and "alpha" uint8 [size, size], the share of each pixel that the person covers (clothes included), times 255.
    ValueError in one line otherwise.
    """
    _check(seed, size, domain)
    stream = np.random.SeedSequence((seed, DOMAINS.index(domain))).generate_state(6, np.uint64)
    draws, scenery, film = (np.random.Generator(np.random.Philox(key=stream[2 * k : 2 * k + 2])) for k in range(3))
    person = draw_person(draws, domain)
    fine = 2 * size
    color, labels, cover = _scene(person, fine, camera.backdrop(scenery, fine, domain))
    radiance = cv2.resize(np.ascontiguousarray(color), (size, size), interpolation=cv2.INTER_AREA)
    alpha = cv2.resize(cover.astype(np.float32) * 255.0, (size, size), interpolation=cv2.INTER_AREA)
    return {
        "image": camera.develop(radiance, film, domain),
        "segmentation": _majority(labels),
        "alpha": np.rint(alpha).astype(np.uint8),
    }


def _check(seed: int, size: int, domain: str) -> None:
    if domain not in DOMAINS:
        raise ValueError(f"`domain` must be one of {', '.join(DOMAINS)}, but got {domain!r}.")
    if not SIZES[0] <= size <= SIZES[1]:
        raise ValueError(f"`size` must be {SIZES[0]} to {SIZES[1]} pixels, but got {size}.")
    if not 0 <= seed < 2**64:
        raise ValueError(f"`seed` must be 0 or more and below 2**64, but got {seed}.")


def _frame(person: Person, fine: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Frame positions [fine * fine] relative to the head's centre, x and y, and the head's rotation.

    As in aligned photographs, eyes and mouth stay near their places whatever the pose: the head moves instead (by four
    fifths of what would pin them, so that a turned head stays in the frame).
    """
    turn = rotation(person.pose)
    _, ay, az = (v * person.scale for v in person.axes)
    eyes = turn @ np.array([0.0, person.eye_y * ay, 0.97 * az], np.float32)
    mouth = turn @ np.array([0.0, person.mouth_y * ay, 0.98 * az], np.float32)
    anchor = (eyes + mouth)[:2] / 2 * [0.8, 1.0]
    line = (np.arange(fine, dtype=np.float32) + 0.5) / fine
    x, y = np.meshgrid(line, line)
    px = x.ravel() - np.float32(_ANCHOR[0] + person.offset[0] - anchor[0])
    py = y.ravel() - np.float32(_ANCHOR[1] + person.offset[1] - anchor[1])
    return px, py, turn


def _scene(person: Person, fine: int, background: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Radiance [fine, fine, 3], labels uint8 and cover bool [fine, fine] of the person before the background."""
    px, py, turn = _frame(person, fine)
    head = Head(person)
    skull = head.meet(px, py, turn)
    trunk = body.meet(person, px, py, turn)
    depth = trunk.depth.copy()
    skull = skull[skull.depth > depth[skull.index]]
    depth[skull.index] = skull.depth
    covered = np.zeros(depth.shape, bool)  # by the curtain
    locks = None
    if person.hair.length > 0.3:
        curtain = hair.Curtain(person.hair, 1.0 + 0.8 * person.hair.thickness + person.hair.volume)
        locks = meet_curtain(curtain, head.axes, px, py, turn)
        locks = locks[locks.depth > depth[locks.index]]
        depth[locks.index] = locks.depth
        covered[locks.index] = True
        skull = skull[~covered[skull.index]]

    lit = shade.cast_shadow(depth.reshape(fine, fine), person.light, fine).ravel()
    x, y, z = skull.canonical
    strand = hair.strands(x, y, z, person.hair)
    height = hair.cap(x, y, z, strand, person.hair)
    color = np.ascontiguousarray(background.reshape(-1, 3).T)
    labels = np.zeros(depth.shape, np.uint8)
    labels[skull.index] = _labels(skull.canonical, height, person)
    labels[covered] = 8

    bodied = trunk.mask & ~covered
    bodied[skull.index] = False
    headed = np.zeros(depth.shape, np.float32)
    headed[skull.index] = 1.0
    near = cv2.GaussianBlur(headed.reshape(fine, fine), (0, 0), 0.035 * fine).ravel()[bodied]
    weave = 1.0 + 0.08 * noise.sample("spots", px[bodied] * 2.0, py[bodied] * 2.0)
    worn = np.where(
        trunk.cloth[bodied], shade.linear(person.cloth)[:, None] * weave, shade.linear(person.skin)[:, None]
    )
    dull = np.zeros_like(near)
    arriving = lit[bodied] * (1.0 - 0.6 * near)  # the chin darkens the throat below it
    color[:, bodied] = shade.light(worn, trunk.normal[:, bodied], dull, 1.0 - 0.8 * near, arriving, person.light)

    # Outlines are softened over one fine pixel.
    edge = 1.0 / (fine * person.axes[0] * person.scale)
    bare = skull[height <= 0]
    albedo, gloss = shade.face(bare.canonical, person, edge)
    open_air = np.clip(1.0 + 4.0 * bare.relief, 0.35, 1.15)
    under = 1.0 - 0.25 * features.smooth(-0.12, 0.0, height[height <= 0])  # hair darkens the skin at its border
    color[:, bare.index] = shade.light(
        albedo, bare.normal, gloss, open_air * under, lit[bare.index] * under, person.light
    )
    cap = skull[height > 0]
    open_air = np.clip(1.0 + 4.0 * cap.relief, 0.5, 1.1)
    color[:, cap.index] = shade.tresses(strand[height > 0], cap.normal, turn, open_air, lit[cap.index], person)
    if locks is not None:
        x, y, z = locks.canonical
        lank = hair.strands(x, y, z, person.hair)
        open_air = 1.0 - 0.65 * features.smooth(0.05, 0.40, -locks.relief)  # behind the neck it is dark
        color[:, locks.index] = shade.tresses(lank, locks.normal, turn, open_air, lit[locks.index] * open_air, person)
    return color.T.reshape(fine, fine, 3), labels.reshape(fine, fine), (depth > -9.0).reshape(fine, fine)


def _labels(canonical: np.ndarray, height: np.ndarray, person: Person) -> np.ndarray:
    """Classes uint8 [n] of positions on the head, drawn with the domain's habits."""
    x, y, z = canonical
    habits = person.habits
    front = z > 0.05
    labels = np.ones(x.shape, np.uint8)
    labels[front & (features.nose(x, y, person) > -habits.nose)] = 4
    upper, inner, lower = features.mouth(x, y, person)
    labels[front & (upper > -habits.lips)] = 5
    labels[front & (lower > -habits.lips) & (lower >= upper)] = 7
    labels[front & (inner > 0.0)] = 6
    for side, label in zip(features.EYE_SIDES, (2, 3), strict=True):
        labels[front & (features.eye(x, y, person, side)[0] > -habits.eyes) & (x * side > 0)] = label
    labels[(height > 0) | ((height > -habits.hairline) & (labels == 1))] = 8
    return labels


def _majority(labels: np.ndarray) -> np.ndarray:
    """The most frequent of each 2x2 block's labels, the lower of two at a tie."""
    a, b, c, d = np.sort(
        np.stack([labels[0::2, 0::2], labels[0::2, 1::2], labels[1::2, 0::2], labels[1::2, 1::2]]), axis=0
    )
    return np.where((a == b) | ((b != c) & (c != d)), a, np.where(b == c, b, c)).astype(np.uint8)
