"""The embedded faces: deterministic, labelled with all nine classes, framed like photographs, in two domains."""

import hashlib
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from datasets.classes import FACE_CLASSES
from datasets.faces import DOMAINS, render, samples

ROOT = Path(__file__).resolve().parents[2]
SIZE = 64


def digest(sample: dict[str, np.ndarray]) -> str:
    return hashlib.sha256(b"".join(sample[name].tobytes() for name in sorted(sample) if name != "id")).hexdigest()


@pytest.fixture(scope="module")
def faces() -> dict[str, list[dict[str, np.ndarray]]]:
    return {domain: list(samples(60, size=SIZE, domain=domain, seed=11)) for domain in DOMAINS}


@pytest.mark.parametrize("domain", DOMAINS)
def test_columns_have_the_documented_types(domain: str) -> None:
    sample = render(3, size=48, domain=domain)
    assert {name: (column.dtype.name, column.shape) for name, column in sample.items()} == {
        "image": ("uint8", (48, 48, 3)),
        "segmentation": ("uint8", (48, 48)),
        "alpha": ("uint8", (48, 48)),
    }


@pytest.mark.parametrize("domain", DOMAINS)
def test_a_seed_gives_the_same_bytes_in_a_fresh_process(domain: str) -> None:
    script = (
        "import hashlib; from datasets.faces import render\n"
        f"s = render(5, size=32, domain={domain!r})\n"
        "print(hashlib.sha256(b''.join(s[n].tobytes() for n in sorted(s))).hexdigest())"
    )
    fresh = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    here = digest(render(5, size=32, domain=domain))
    assert here == digest(render(5, size=32, domain=domain)) == fresh.stdout.strip()


def test_seeds_and_domains_differ() -> None:
    made = {digest(render(seed, size=32, domain=domain)) for seed in range(6) for domain in DOMAINS}
    assert len(made) == 12


def test_a_sample_does_not_depend_on_how_many_are_asked_for() -> None:
    few = list(samples(2, size=32, domain="studio", seed=7))
    many = list(samples(4, size=32, domain="studio", seed=7))
    assert [s["id"] for s in many] == [f"studio-7-{i:06d}" for i in range(4)]
    assert [digest(s) for s in few] == [digest(s) for s in many[:2]]
    assert digest(many[0]) != digest(next(samples(1, size=32, domain="studio", seed=8)))


def test_the_size_changes_the_sampling_and_not_the_person() -> None:
    for seed in range(4):
        small = render(seed, size=48, domain="studio")["segmentation"]
        large = render(seed, size=96, domain="studio")["segmentation"][::2, ::2]
        assert (small == large).mean() > 0.95


@pytest.mark.parametrize("domain", DOMAINS)
def test_all_nine_classes_occur_in_thirty_faces(domain: str, faces: dict[str, list[dict[str, np.ndarray]]]) -> None:
    seen = set(np.concatenate([np.unique(s["segmentation"]) for s in faces[domain][:30]]).tolist())
    assert seen == set(range(len(FACE_CLASSES)))


@pytest.mark.parametrize("domain", DOMAINS)
def test_features_are_where_a_face_has_them(domain: str, faces: dict[str, list[dict[str, np.ndarray]]]) -> None:
    """Image-left before image-right eye, eyes above the nose's tip, upper lip above lower lip; each in every face."""
    compared = 0
    for sample in faces[domain]:
        place = {c: np.argwhere(sample["segmentation"] == c) for c in (2, 3, 4, 5, 7)}
        if len(place[2]) and len(place[3]):
            compared += 1
            assert place[2][:, 1].mean() < place[3][:, 1].mean()
            assert max(place[2][:, 0].mean(), place[3][:, 0].mean()) < place[4][:, 0].max()
        assert place[4][:, 0].mean() < place[5][:, 0].mean() < place[7][:, 0].mean()
    assert compared >= 48


@pytest.mark.parametrize("domain", DOMAINS)
def test_the_face_is_inside_the_frame(domain: str, faces: dict[str, list[dict[str, np.ndarray]]]) -> None:
    margin, inside = 1, 0
    for sample in faces[domain]:
        rows, columns = np.nonzero(np.isin(sample["segmentation"], (1, 2, 3, 4, 5, 6, 7)))
        low, high = min(rows.min(), columns.min()), max(rows.max(), columns.max())
        inside += low >= margin and high <= SIZE - 1 - margin
        assert 0.35 < (rows.max() - rows.min() + 1) / SIZE < 0.95
    assert inside >= 0.95 * len(faces[domain])


@pytest.mark.parametrize("domain", DOMAINS)
def test_alpha_covers_the_head_and_nothing_far_from_it(
    domain: str, faces: dict[str, list[dict[str, np.ndarray]]]
) -> None:
    outside = 0
    for sample in faces[domain]:
        head = (sample["segmentation"] > 0).astype(np.uint8)
        assert (sample["alpha"][cv2.erode(head, np.ones((5, 5), np.uint8), borderValue=0) > 0] == 255).all()
        far = cv2.dilate(head, np.ones((9, 9), np.uint8)) == 0
        far[SIZE // 2 :] = False  # neck and shoulders are cover without being a class
        assert (sample["alpha"][far] == 0).all()
        outside += int(far.sum())
    assert outside > 0


def test_labels_follow_the_picture(faces: dict[str, list[dict[str, np.ndarray]]]) -> None:
    """The closed lips of a clean render are redder than the skin around them, so labels and texture agree."""
    redder = []
    for sample in faces["studio"]:
        image = sample["image"].astype(np.float64)
        lips = np.isin(sample["segmentation"], (5, 7))
        around = (cv2.dilate(lips.astype(np.uint8), np.ones((7, 7), np.uint8)) > 0) & (sample["segmentation"] == 1)
        ratio = [image[m, 0].mean() / image[m, 1].mean() for m in (lips, around)]
        redder.append(ratio[0] > ratio[1])
    assert np.mean(redder) > 0.9


def test_the_domains_statistics_differ(faces: dict[str, list[dict[str, np.ndarray]]]) -> None:
    """On the skin alone, away from outlines, the street's photographs carry far more fine detail and noise."""

    def energy(sample: dict[str, np.ndarray]) -> float:
        grey = cv2.cvtColor(sample["image"], cv2.COLOR_RGB2GRAY).astype(np.float64)
        skin = cv2.erode((sample["segmentation"] == 1).astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
        return float(np.abs(cv2.Laplacian(grey, cv2.CV_64F))[skin].mean())

    studio, street = (np.median([energy(s) for s in faces[domain]]) for domain in DOMAINS)
    assert street > 1.5 * studio


def test_the_streets_annotators_draw_features_larger(faces: dict[str, list[dict[str, np.ndarray]]]) -> None:
    """The street's heads are smaller in the frame and turn further, and yet its eyes are labelled larger."""
    share = {d: np.mean([np.isin(s["segmentation"], (2, 3)).mean() for s in faces[d]]) for d in DOMAINS}
    assert share["street"] > 1.15 * share["studio"]


@pytest.mark.parametrize(
    ("count", "size", "domain", "message"),
    [
        (-1, 32, "studio", "`count` must be 0 or more, but got -1"),
        (1, 32, "moon", "`domain` must be one of studio, street, but got 'moon'"),
        (1, 8, "studio", "`size` must be 16 to 1024 pixels, but got 8"),
        (1, 2048, "street", "`size` must be 16 to 1024 pixels, but got 2048"),
    ],
)
def test_wrong_arguments_are_named_at_the_call(count: int, size: int, domain: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        samples(count, size=size, domain=domain, seed=0)
    assert "\n" not in str(error.value)


def test_no_samples_is_an_empty_stream() -> None:
    assert list(samples(0, size=32, domain="studio", seed=0)) == []


def test_a_negative_seed_is_refused() -> None:
    with pytest.raises(ValueError, match="`seed` must be 0 or more"):
        render(-1, size=32, domain="studio")
    with pytest.raises(ValueError, match="`seed` must be 0 or more"):
        samples(1, size=32, domain="studio", seed=-1)


def test_a_body_that_is_hidden_wholly_is_no_error() -> None:
    """In this one head and hair leave nothing of neck and clothes to see: parts without pixels must be allowed."""
    assert render(36, size=32, domain="street")["image"].std() > 0
