"""Translated images are what the formulas say, made from images of the real subset alone, and bit for bit again."""

import hashlib
import json
import pickle
import random
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pydantic import TypeAdapter, ValidationError

from datasets import Domain, DomainRows, Loader, LoaderProcesses, Mix, Pack, Source, write_pack
from datasets.translation import (
    AdainImage,
    Fda,
    Histogram,
    PixelDistribution,
    Translation,
    TranslationSpec,
    translated_column,
)
from datasets.translation.style import Decoder, Encoder, match_statistics
from datasets.weights import Weights

ROOT = Path(__file__).resolve().parents[2]
PARITY = ROOT.parent / "shared" / "reference" / "parity"
SPECS: dict[str, Any] = {
    "fda": Fda(beta=0.1),
    "histogram": Histogram(),
    "standard": PixelDistribution(),
    "minmax": PixelDistribution(transform="minmax"),
    "pca": PixelDistribution(transform="pca"),
    "lab": AdainImage(),
}
ENCODER = (0, 2, 5, 9, 12, 16, 19, 22, 25, 29)  # the numbers of the published files' convolutions
DECODER = (1, 5, 8, 11, 14, 18, 21, 25, 28)
POOLED, ENLARGED = (9, 16, 29), (5, 18, 25)  # convolutions that a pooling or an upsampling comes before
SIZES = [(16, 16), (15, 17), (32, 20), (9, 40), (2, 3), (1, 7)]


def picture(size: tuple[int, int], seed: int, mean: float = 120, spread: float = 40) -> np.ndarray:
    """Smooth random colours, uint8 [H, W, 3]."""
    rng = np.random.Generator(np.random.Philox(seed))
    y, x = np.mgrid[0 : size[0], 0 : size[1]] / max(size)
    waves = [np.sin(6 * (a * x + b * y) + c) for a, b, c in rng.normal(size=(3, 3))]
    noise = rng.normal(scale=0.2, size=(*size, 3))
    return np.clip(mean + rng.uniform(-30, 30, 3) + spread * (np.stack(waves, 2) + noise), 0, 255).astype(np.uint8)


def weights(folder: Path) -> tuple[Weights, Weights]:
    """Files of weights by formula, with the names of the published ones."""
    made = []
    for name, model in (("encoder", Encoder()), ("decoder", Decoder())):
        state = {}
        for key, tensor in model.state_dict().items():
            rng = np.random.Generator(np.random.Philox(zlib.crc32(key.encode())))
            scale = np.sqrt(2 / tensor[0].numel()) if tensor.ndim > 1 else 0.05
            state[key] = torch.from_numpy(rng.normal(scale=scale, size=tensor.shape).astype(np.float32))
        if name == "encoder":  # the published one goes on to relu5_4
            state |= {"32.weight": torch.zeros(512, 512, 3, 3), "51.bias": torch.zeros(512)}
        torch.save(state, folder / f"{name}.pth")
        made.append(Weights(path=f"{name}.pth").identified(folder))
    return made[0], made[1]


@pytest.fixture(scope="module")
def encoded(tmp_path_factory: pytest.TempPathFactory) -> AdainImage:
    encoder, decoder = weights(tmp_path_factory.mktemp("weights"))
    return AdainImage(encoder=encoder, decoder=decoder)


@pytest.fixture
def translated(tmp_path: Path) -> Callable[..., np.ndarray]:
    """translated(spec, image, reference): the image, by way of a pack with the one reference."""

    def call(spec: Any, image: np.ndarray, reference: np.ndarray) -> np.ndarray:
        name = hashlib.blake2b(reference.tobytes() + str(reference.shape).encode(), digest_size=8).hexdigest()
        place = tmp_path / name
        pack = Pack.open(place) if place.exists() else write_pack(place, [{"image": reference}], source={"of": "test"})
        source = Source([pack])
        sample = Translation(spec, source, DomainRows(Domain.REAL, source.digest, [0]))({"image": image}, 3)
        result = sample["image"]
        assert isinstance(result, np.ndarray)
        assert result.dtype == np.uint8
        assert result.shape == image.shape
        return result

    return call


def near(image: np.ndarray, truth: np.ndarray, tolerance: float = 0.501) -> bool:
    """Whether an image is these real numbers, clipped and rounded."""
    return bool(np.abs(image - np.clip(truth, 0, 255)).max() <= tolerance)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("beta", [0.01, 0.1, 0.3, 0.5])
def test_fda_is_the_papers_formula(translated: Any, size: tuple[int, int], beta: float) -> None:
    image, reference = picture(size, 1), picture(size, 2, 90)
    truth = np.empty(image.shape)
    (height, width), (b, c) = size, (int(beta * size[0]), int(beta * size[1]))
    window = np.zeros(size)  # around the zero frequency, which fftshift puts at n // 2
    window[max(height // 2 - b, 0) : height // 2 + b + 1, max(width // 2 - c, 0) : width // 2 + c + 1] = 1
    for k in range(3):
        source, target = (np.fft.fftshift(np.fft.fft2(x[..., k].astype(float))) for x in (image, reference))
        amplitude = window * np.abs(target) + (1 - window) * np.abs(source)
        truth[..., k] = np.fft.ifft2(np.fft.ifftshift(amplitude * np.exp(1j * np.angle(source)))).real
    assert near(translated(Fda(beta=beta), image, reference), truth)


def test_fda_below_one_pixel_moves_the_mean_colour_alone(translated: Any) -> None:
    image, reference = picture((64, 64), 1, spread=20), picture((64, 64), 2, spread=20)
    truth = image + (reference.mean((0, 1)) - image.mean((0, 1)))
    assert near(translated(Fda(beta=0.01), image, reference), truth)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("strength", [1.0, 0.3])
def test_histogram_is_the_inverse_distribution_of_the_distribution(
    translated: Any, size: tuple[int, int], strength: float
) -> None:
    image, reference = picture(size, 1), picture(size, 2, 90)
    truth = np.empty(image.shape)
    for k in range(3):
        ours, theirs = image[..., k], reference[..., k]
        values = np.unique(theirs)
        below = [(theirs <= value).mean() for value in values]
        for value in np.unique(ours):
            truth[..., k][ours == value] = np.interp((ours <= value).mean(), below, values)
    blended = strength * truth + (1 - strength) * image
    assert near(translated(Histogram(strength=strength), image, reference), blended)


def test_histogram_finds_a_rising_curve_again(translated: Any) -> None:
    image = picture((32, 32), 1, spread=20)
    curve = np.clip(1.3 * np.arange(256) - 40, 0, 255).astype(np.uint8)  # no two of the image's values become one
    assert len({*curve[image].ravel().tolist()}) == len({*image.ravel().tolist()})
    np.testing.assert_array_equal(translated(Histogram(), image, curve[image][::-1]), curve[image])


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("strength", [1.0, 0.3])
@pytest.mark.parametrize("transform", ["standard", "minmax", "pca"])
def test_pixel_distribution_is_its_formula(
    translated: Any, size: tuple[int, int], strength: float, transform: str
) -> None:
    image, reference = picture(size, 1), picture(size, 2, 90, 25)
    ours, theirs = image.reshape(-1, 3).astype(float), reference.reshape(-1, 3).astype(float)
    if transform == "standard":
        truth = (ours - ours.mean(0)) / ours.std(0) * theirs.std(0) + theirs.mean(0)
    elif transform == "minmax":
        truth = (ours - ours.min(0)) / (ours.max(0) - ours.min(0)) * (theirs.max(0) - theirs.min(0)) + theirs.min(0)
    else:
        axes, others = (np.linalg.svd(x - x.mean(0), full_matrices=False)[2] for x in (ours, theirs))  # by row
        truth = np.tile(theirs.mean(0), (len(ours), 1))
        for axis, other in zip(axes, others, strict=True):
            truth += ((ours - ours.mean(0)) @ axis)[:, None] * other * np.sign(axis @ other)
    blended = strength * truth.reshape(image.shape) + (1 - strength) * image
    spec = PixelDistribution(transform=transform, strength=strength)
    assert near(translated(spec, image, reference), blended, 0.51)


WHITE = np.array([0.950456, 1.0, 1.088754])  # D65
XYZ = np.array([[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]])


def to_lab(image: np.ndarray) -> np.ndarray:
    """CIE 15 and IEC 61966-2-1, for sRGB 0 to 255."""
    value = image / 255
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    ratio = linear @ XYZ.T / WHITE
    x, y, z = np.moveaxis(np.where(ratio > 216 / 24389, np.cbrt(ratio), (24389 / 27 * ratio + 16) / 116), -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], -1)


def from_lab(lab: np.ndarray) -> np.ndarray:
    y = (lab[..., 0] + 16) / 116
    root = np.stack([y + lab[..., 1] / 500, y, y - lab[..., 2] / 200], -1)
    ratio = np.where(root > 6 / 29, root**3, (116 * root - 16) * 27 / 24389)
    linear = np.clip(ratio * WHITE @ np.linalg.inv(XYZ).T, 0, 1)
    return 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("strength", [1.0, 0.3])
def test_lab_statistics_are_the_formula(translated: Any, size: tuple[int, int], strength: float) -> None:
    image, reference = picture(size, 1, 120, 25), picture(size, 2, 100, 25)
    ours, theirs = to_lab(image), to_lab(reference)
    (mean, std), (wanted_mean, wanted_std) = ((x.mean((0, 1)), x.std((0, 1))) for x in (ours, theirs))
    matched = (ours - mean) / std * wanted_std + wanted_mean
    truth = from_lab(strength * matched + (1 - strength) * ours)
    assert near(translated(AdainImage(strength=strength), image, reference), truth, 2.5)  # of OpenCV's tables


def test_the_style_network_has_the_published_layers() -> None:
    for model, numbers, parameters in ((Encoder(), ENCODER, 3_505_740), (Decoder(), DECODER, 3_505_219)):
        assert sum(p.numel() for p in model.parameters()) == parameters
        assert list(model.state_dict()) == [f"{n}.{kind}" for n in numbers for kind in ("weight", "bias")]


@pytest.mark.skipif(not PARITY.exists(), reason="the recorded numbers of the reference are not here")
def test_statistics_are_matched_as_the_reference_does() -> None:
    meta = json.loads((PARITY / "adain.json").read_text())
    with np.load(PARITY / "adain.npz") as case:
        content, style = (torch.from_numpy(case[name]) for name in ("in:content", "in:style"))
        difference = np.abs(match_statistics(content, style).numpy() - case["unbiased"]).max()
    assert difference <= meta["outputs"]["unbiased"]["atol"]


@pytest.mark.parametrize(("size", "strength"), [((16, 16), 1.0), ((24, 16), 0.4), ((19, 30), 1.0), ((5, 3), 1.0)])
def test_encoded_statistics_are_the_published_network(
    translated: Any, encoded: AdainImage, size: tuple[int, int], strength: float
) -> None:
    """Written once more, layer by layer, in float64."""
    image, reference = picture(size, 1), picture(size, 2, 90)
    assert encoded.encoder is not None
    assert encoded.decoder is not None
    layers = [
        {name: tensor.double() for name, tensor in torch.load(file.path).items()}
        for file in (encoded.encoder, encoded.decoder)
    ]

    def convolved(x: torch.Tensor, state: Any, number: int) -> torch.Tensor:
        kernel = state[f"{number}.weight"]
        x = F.pad(x, (1, 1, 1, 1), mode="reflect") if kernel.shape[-1] == 3 else x
        return F.conv2d(x, kernel, state[f"{number}.bias"])

    def encode(x: np.ndarray) -> torch.Tensor:
        padding = [(0, max(16, -(-side // 8) * 8) - side) for side in x.shape[:2]]
        padded = np.pad(x, [*padding, (0, 0)], mode="reflect") / 255
        features = torch.from_numpy(padded.transpose(2, 0, 1)[None].copy())
        for number in ENCODER:
            features = F.max_pool2d(features, 2) if number in POOLED else features
            features = convolved(features, layers[0], number)
            features = features.relu() if number else features
        return features

    content, style = encode(image), encode(reference)
    (mean, std), (wanted_mean, wanted_std) = (
        (x.mean((2, 3), keepdim=True), (x.var((2, 3), keepdim=True) + 1e-5).sqrt()) for x in (content, style)
    )
    features = strength * ((content - mean) / std * wanted_std + wanted_mean) + (1 - strength) * content
    for number in DECODER:
        features = F.interpolate(features, scale_factor=2.0, mode="nearest") if number in ENLARGED else features
        features = convolved(features, layers[1], number)
        features = features.relu() if number != DECODER[-1] else features
    truth = 255 * features[0, :, : size[0], : size[1]].permute(1, 2, 0).numpy()
    result = translated(encoded.model_copy(update={"strength": strength}), image, reference)
    assert near(result, truth, 0.52)
    assert len(np.unique(result)) > 10  # and the test is not passed by what is clipped


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("size", SIZES)
def test_an_image_that_is_its_own_reference_stays(translated: Any, name: str, size: tuple[int, int]) -> None:
    image = picture(size, 1)
    assert np.abs(translated(SPECS[name], image, image).astype(int) - image).max() <= (name == "lab")


@pytest.mark.parametrize("name", [name for name in SPECS if name != "fda"])
def test_a_strength_near_0_changes_nothing(translated: Any, name: str) -> None:
    image, reference = picture((32, 24), 1), picture((32, 24), 2, 60)
    spec = SPECS[name].model_copy(update={"strength": 1e-6})
    assert np.abs(translated(spec, image, reference).astype(int) - image).max() <= (name == "lab")


@pytest.mark.parametrize("name", [*SPECS, "encoded"])
def test_flat_and_grey_images_are_no_special_case(translated: Any, encoded: AdainImage, name: str) -> None:
    """Nothing is divided by a spread of zero: a flat image takes the mean (of a histogram the last, the largest)."""
    spec = (SPECS | {"encoded": encoded})[name]
    flat = np.full((24, 16, 3), (200, 100, 50), np.uint8)
    reference = picture((24, 16), 2, 90)
    grey = np.repeat(picture((24, 16), 3)[..., :1], 3, 2)
    with np.errstate(all="raise"):
        result = translated(spec, flat, reference)
        onto_flat = translated(spec, picture((24, 16), 1), flat)
        greys = translated(spec, grey, grey[::-1])
    expected = reference.mean((0, 1))
    if name in ("fda", "standard", "pca"):
        assert near(result, np.broadcast_to(expected, result.shape), 0.6)
    if name == "minmax":
        assert (result == reference.min((0, 1))).all()
    if name == "histogram":
        assert (result == reference.max((0, 1))).all()
    if name == "lab":
        assert np.abs(to_lab(result).mean((0, 1)) - to_lab(reference).mean((0, 1))).max() < 1
    if name not in ("fda", "pca", "encoded"):  # a window, axes and features let the image through
        assert np.abs(onto_flat.astype(int) - (200, 100, 50)).max() <= 2
    if name != "encoded":
        assert np.ptp(greys.astype(int), axis=2).max() <= 2


def test_a_reference_of_another_size_is_resized_by_area(translated: Any) -> None:
    image, reference = picture((16, 12), 1), picture((32, 24), 2, 90)
    halved = np.rint(reference.reshape(16, 2, 12, 2, 3).mean((1, 3))).astype(np.uint8)
    difference = translated(Fda(beta=0.5), image, reference).astype(int) - translated(Fda(beta=0.5), image, halved)
    assert np.abs(difference).max() <= 1


# What a translation is of: samples, seeds, subsets.


@pytest.fixture
def packs(tmp_path: Path) -> tuple[Source, Source]:
    """Real and synthetic, 16 px: the green of a real image is ten times its row."""
    real = [{"id": str(i), "image": np.full((16, 16, 3), (i, 10 * i, 7), np.uint8)} for i in range(20)]
    synthetic = [{"id": str(i), "image": picture((16, 16), i, 120, 20)} for i in range(9)]
    return (
        Source([write_pack(tmp_path / "real", real, source={"of": "test"})]),
        Source([write_pack(tmp_path / "synthetic", synthetic, source={"of": "test"})]),
    )


def over(spec: Any, source: Source, rows: Any = range(20)) -> Translation:
    return Translation(spec, source, DomainRows(Domain.REAL, source.digest, rows))


def test_references_are_of_the_subset_and_each_is_used(packs: tuple[Source, Source]) -> None:
    subset = [3, 17, 8, 5]
    translation = over(Fda(beta=0.01), packs[0], subset)  # at 16 px: the mean colour alone
    sample = packs[1].sample(0)
    seen = []
    for seed in range(400):
        row = round(translation(sample, seed)["image"][..., 1].mean() / 10)  # type: ignore[union-attr]
        assert row == translation.reference_row(seed)
        seen.append(row)
    assert set(seen) == set(subset)
    assert min(seen.count(row) for row in subset) > 70  # of 100 on average; a deviation is 9
    assert over(Fda(), packs[0]).reference_row(2**64 - 1) in range(20)


def test_references_do_not_go_along_with_the_augmentation(packs: tuple[Source, Source]) -> None:
    translation = over(Histogram(), packs[0])
    rows = [translation.reference_row(seed) for seed in range(4000)]
    draws = [np.random.Generator(np.random.Philox(key=[seed, 0])).random() for seed in range(4000)]
    assert abs(np.corrcoef(rows, draws)[0, 1]) < 0.05  # 3 deviations
    assert abs(np.corrcoef(rows, range(4000))[0, 1]) < 0.05
    assert abs(np.corrcoef(rows[1:], rows[:-1])[0, 1]) < 0.05


@pytest.mark.parametrize("name", [*SPECS, "encoded"])
def test_a_translation_is_a_function_of_sample_and_seed(
    packs: tuple[Source, Source], encoded: AdainImage, name: str
) -> None:
    spec = (SPECS | {"encoded": encoded})[name]
    translation, sample = over(spec, packs[0]), packs[1].sample(2)
    image = sample["image"]
    assert isinstance(image, np.ndarray)
    assert not image.flags.writeable  # mapped memory
    before, states = image.copy(), (random.getstate(), str(np.random.get_state()), torch.get_rng_state())  # noqa: NPY002
    threads = torch.get_num_threads()
    results = [translation(sample, seed) for seed in (5, 6, 5, 2**64 - 1)]
    again = pickle.loads(pickle.dumps(translation))(sample, 5)
    assert translation.reference_row(5) != translation.reference_row(6)
    for other in (results[2], again):
        assert other.keys() == sample.keys()
        assert other["id"] == sample["id"]
        np.testing.assert_array_equal(other["image"], results[0]["image"])
    assert not np.array_equal(results[0]["image"], results[1]["image"])
    assert sample["image"] is image
    np.testing.assert_array_equal(image, before)
    assert random.getstate() == states[0]
    assert str(np.random.get_state()) == states[1]  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), states[2])
    assert torch.get_num_threads() == threads


def as_it_is(sample: Any, seed: int) -> dict[str, np.ndarray]:
    return {"image": sample["image"], "seed": np.asarray(seed, np.int64)}


@pytest.mark.parametrize("name", [*SPECS, "encoded"])
def test_a_loader_translates_synthetic_samples_alone_in_any_process(
    packs: tuple[Source, Source], encoded: AdainImage, name: str
) -> None:
    sources = dict(zip((Domain.REAL, Domain.SYNTHETIC), packs, strict=True))
    domains = [DomainRows(domain, source.digest, range(len(source))) for domain, source in sources.items()]
    mix = Mix(4, 0, domains, 0.5)
    translation = over((SPECS | {"encoded": encoded})[name], packs[0], [4, 5, 6])
    runs = []
    for processes in (None, LoaderProcesses(1), LoaderProcesses(2)):
        loader = Loader(sources, mix, as_it_is, ("image",), translate=translation)
        runs.append([{key: value.clone() for key, value in batch.items()} for batch in loader.batches(1, 4, processes)])
    for step, batches in enumerate(zip(*runs, strict=True), start=1):
        draws = mix.batch(step)
        for batch in batches:
            assert torch.equal(batch["image"], batches[0]["image"])
        for k in range(4):
            domain, seed = Domain(int(draws.domain[k])), int(draws.seed[k])
            sample = sources[domain].sample(int(draws.row[k]), ("image",))
            wanted = sample if domain is Domain.REAL else translation(sample, seed)
            np.testing.assert_array_equal(batches[0]["image"][k], wanted["image"])
            assert batches[0]["seed"][k] == seed


def test_of_composites_the_foreground_is_translated(tmp_path: Path) -> None:
    samples = [{"foreground": picture((16, 16), i), "alpha": np.zeros((16, 16), np.uint8)} for i in range(2)]
    source = Source([write_pack(tmp_path / "people", samples, source={"of": "test"})])
    assert translated_column(("foreground", "alpha")) == "foreground"
    assert translated_column(("id", "image", "foreground")) == "image"
    with pytest.raises(ValueError, match="needs the column image or foreground, but the task reads alpha, depth"):
        translated_column(("alpha", "depth"))
    translation = Translation(PixelDistribution(), source, DomainRows(Domain.REAL, source.digest, [1]), "foreground")
    sample = source.sample(0)
    result = translation(sample, 0)
    assert result["alpha"] is sample["alpha"]
    np.testing.assert_allclose(
        np.mean(result["foreground"], (0, 1)),  # type: ignore[arg-type]
        source.sample(1)["foreground"].mean((0, 1)),  # type: ignore[union-attr]
        atol=3,
    )


# What is refused.


def test_what_does_not_fit_is_refused(packs: tuple[Source, Source]) -> None:
    real, synthetic = packs
    with pytest.raises(ValueError, match="references must be real rows, but got synthetic ones"):
        Translation(Fda(), synthetic, DomainRows(Domain.SYNTHETIC, synthetic.digest, [0]))
    with pytest.raises(ValueError, match="the rows of references must be of source"):
        Translation(Fda(), real, DomainRows(Domain.REAL, synthetic.digest, [0]))
    with pytest.raises(ValueError, match=r"with 20 rows, but are of \w+ up to row 20"):
        over(Fda(), real, [0, 20])
    with pytest.raises(ValueError, match="references must have column 'foreground', but have id, image"):
        Translation(Fda(), real, DomainRows(Domain.REAL, real.digest, [0]), "foreground")
    translation = over(Fda(), real)
    with pytest.raises(ValueError, match=r"sample 7: image must be uint8 \[H, W, 3\].*, but is float32 \[4, 4, 3\]"):
        translation({"id": "7", "image": np.zeros((4, 4, 3), np.float32)}, 0)
    with pytest.raises(ValueError, match=r"sample: image must be uint8 \[H, W, 3\] to be translated, but is NoneType"):
        translation({"alpha": np.zeros((4, 4), np.uint8)}, 0)


SPEC: TypeAdapter[TranslationSpec] = TypeAdapter(TranslationSpec)


def test_a_spec_is_a_value_that_its_method_decides() -> None:
    for spec in SPECS.values():
        assert SPEC.validate_json(spec.model_dump_json()) == spec
        assert spec.identified(Path("/")) is spec
        assert hash(spec) == hash(spec.model_copy())
    assert SPEC.validate_python({"method": "fda"}) == Fda()
    for wrong in (
        {"method": "fda", "beta": 0.0},
        {"method": "fda", "beta": 0.51},
        {"method": "fda", "beta": float("nan")},
        {"method": "fda", "strength": 1.0},
        {"method": "histogram", "strength": 0},
        {"method": "histogram", "strength": 1.01},
        {"method": "pixel_distribution", "transform": "whitening"},
        {"method": "cyclegan"},
        {"beta": 0.1},
    ):
        with pytest.raises(ValidationError):
            SPEC.validate_python(wrong)
    with pytest.raises(ValidationError, match="encoder and decoder go together, but got encoder alone"):
        AdainImage(encoder=Weights(path="e.pth"))
    with pytest.raises(ValidationError, match="encoder and decoder go together, but got decoder alone"):
        AdainImage(decoder=Weights(path="d.pth"))


def test_files_of_weights_are_known_by_their_content(tmp_path: Path) -> None:
    for name in "ed":
        (tmp_path / f"{name}.pth").write_bytes(name.encode())
    spec = SPEC.validate_python({"method": "adain_image", "encoder": "e.pth", "decoder": "d.pth"})
    with pytest.raises(ValueError, match="must be identified before"):
        spec.model_dump()
    dumped = spec.identified(tmp_path).model_dump(mode="json")
    assert dumped["encoder"] == hashlib.blake2b(b"e", digest_size=32).hexdigest()
    assert dumped["decoder"] == hashlib.blake2b(b"d", digest_size=32).hexdigest()
    (tmp_path / "d.pth").unlink()
    with pytest.raises(ValueError, match=r"d\.pth: must be a file of published weights, but: No such file"):
        spec.identified(tmp_path)


def test_files_that_are_not_of_the_network_are_refused(
    packs: tuple[Source, Source], encoded: AdainImage, tmp_path: Path
) -> None:
    assert encoded.encoder is not None
    assert encoded.decoder is not None
    exchanged = encoded.model_copy(update={"encoder": encoded.decoder, "decoder": encoded.encoder})
    with pytest.raises(
        ValueError, match=r"decoder\.pth: must hold weights of Encoder|decoder\.pth: .* must have shape"
    ):
        over(exchanged, packs[0])
    state = torch.load(encoded.decoder.path)
    del state["28.bias"]
    torch.save(state, tmp_path / "short.pth")
    short = encoded.model_copy(update={"decoder": Weights(path="short.pth").identified(tmp_path)})
    with pytest.raises(ValueError, match=r"short\.pth: must hold all weights .*Decoder, but lacks 28\.bias") as error:
        over(short, packs[0])
    assert "\n" not in str(error.value)
    (tmp_path / "text.pth").write_text("no weights")
    text = encoded.model_copy(update={"encoder": Weights(path="text.pth").identified(tmp_path)})
    with pytest.raises(ValueError, match=r"text\.pth: must be a file that torch\.load reads") as error:
        over(text, packs[0])
    assert "\n" not in str(error.value)


def test_specs_need_neither_torch_nor_albumentations() -> None:
    code = "import sys, datasets.translation; sys.exit(', '.join({'torch', 'albumentations'} & set(sys.modules)) or 0)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
