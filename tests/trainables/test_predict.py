"""Predict: what a network says of a square comes back to the pixels of pictures of any size, form and orientation."""

import io
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from datasets.contact import colour
from datasets.formats.points import read_points
from trainables.__main__ import main
from trainables.adaptation import adapt
from trainables.drawing import LIGHT, beside, draw
from trainables.landmarks.spec import LandmarksSpec
from trainables.matting.model import Matte
from trainables.matting.spec import MattingSpec
from trainables.methods import Adain, NetworkMethod
from trainables.model_folder import ModelFile, input_of, save
from trainables.predict import Predictor
from trainables.segmentation.spec import SegmentationSpec
from trainables.segmentation.task import MEAN, STD
from trainables.specs import TaskSpec
from trainables.task import build_task

CPU = torch.device("cpu")
SPECS: dict[str, TaskSpec] = {
    "segmentation": SegmentationSpec(kind="segmentation", width=0.0625, resolution=32, aspp_rates=(1, 2, 3)),
    "matting": MattingSpec(kind="matting", width=0.125, resolution=32),
    "landmarks": LandmarksSpec(kind="landmarks", stacks=1, width=0.03125, depth=2, resolution=64),
}


def file_of(kind: str, method: NetworkMethod = "none", crop: str | None = None) -> ModelFile:
    spec = SPECS[kind]
    adain = Adain() if method == "adain" else None
    given = {"adaptation": method, "adain": adain, "input": input_of(spec, crop)}
    return ModelFile(task=spec, metric="val/x", metrics={"val/x": 0.5}, **given)  # type: ignore[arg-type]


def network(kind: str, method: NetworkMethod = "none") -> nn.Module:
    """A real one with random weights and statistics."""
    task = build_task(SPECS[kind])
    model = task.build_model()
    task.initialise(model, 1)
    adapt(model, method, Adain() if method == "adain" else None)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, buffer in model.named_buffers():
            if name.endswith("running_mean"):
                buffer.copy_(torch.rand(buffer.shape, generator=generator) / 5 - 0.1)
            if name.endswith("running_var"):
                buffer.copy_(torch.rand(buffer.shape, generator=generator) / 5 + 0.2)
    if kind == "segmentation":  # as many pixels of one class as of another
        model.eval()
        images = torch.from_numpy(noise(4, 32, 32, 3, seed=9))
        with torch.no_grad():
            logits = task.scored(model, {"image": images})  # type: ignore[attr-defined]
            model.get_parameter("decoder.last_conv.8.bias").sub_(logits.mean((0, 2, 3)))
    return model.eval()


def exported(folder: Path, kind: str, method: NetworkMethod = "none", crop: str | None = None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    save(folder, network(kind, method), file_of(kind, method, crop))
    return folder


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.Generator(np.random.Philox(seed)).integers(0, 256, shape, dtype=np.uint8)


# -- networks that are known: what they say of a square can be told from it -------------------------------------------


class NearestColour(nn.Module):
    """Gives a pixel the class whose colour is the nearest."""

    def forward(self, x: Tensor) -> Tensor:
        mean, std = (torch.tensor(value).reshape(3, 1, 1) for value in (MEAN, STD))
        colours = torch.tensor([colour(k) for k in range(9)], dtype=torch.float32)
        return -(x * std + mean - colours[:, :, None, None][:, None] / 255).square().sum(2).transpose(0, 1)


class Brightest(nn.Module):
    """Points at the middle of what is bright, all of them."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.avg_pool2d(x[:, :1], 4)[:, None].expand(-1, 1, 51, -1, -1)


class Difference(nn.Module):
    """Alpha is 1 where the picture is not the background."""

    def forward(self, src: Tensor, bgr: Tensor) -> Matte:
        alpha = ((src - bgr).abs().amax(1, keepdim=True) > 0.05).float()
        return Matte(alpha, src, alpha, alpha)


def known(kind: str, model: nn.Module) -> Predictor:
    return Predictor(file_of(kind), model, CPU)


def painted(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """A picture whose left third is class 1, its upper right class 3 and the rest class 5; and its classes."""
    labels = np.full((height, width), 5, np.uint8)
    labels[:, : width // 3] = 1
    labels[: height // 2, width // 3 :] = 3
    return np.array([colour(k) for k in range(9)], np.uint8)[labels], labels


@pytest.mark.parametrize("shape", [(32, 32), (240, 400), (403, 130), (17, 9), (1, 40)])
def test_masks_are_of_the_pictures_own_size_and_place(shape: tuple[int, int]) -> None:
    image, labels = painted(*shape)
    (found,) = known("segmentation", NearestColour())([image])
    assert found.shape == shape
    assert found.dtype == np.uint8
    edge = max(shape) / 32  # a pixel of the network, on either side of a boundary
    kernel = np.ones((2 * int(np.ceil(edge)) + 1,) * 2, np.uint8)
    inner = cv2.erode(labels, kernel) == cv2.dilate(labels, kernel)
    inner &= cv2.erode(np.ones(shape, np.uint8), kernel, borderType=cv2.BORDER_CONSTANT, borderValue=0) == 1
    assert (found == labels)[inner].all()
    if min(shape) >= 32:
        assert inner.mean() > 0.3
        assert (found == labels).mean() > 0.85


def test_a_box_is_looked_at_alone() -> None:
    image, labels = painted(300, 400)
    (found,) = known("segmentation", NearestColour())([image], boxes=[(90, 100, 190, 180)])
    # The square around the box is 100 wide: x 90 to 190, y 90 to 190.
    inside = np.zeros(image.shape[:2], bool)
    inside[90:190, 90:190] = True
    assert (found[~inside] == 255).all()
    assert (found == labels)[inside].mean() > 0.93


def test_the_classes_of_a_picture_of_the_networks_size_are_those_that_are_evaluated() -> None:
    predictor = known("segmentation", network("segmentation"))
    images = noise(11, 32, 32, 3)
    with torch.no_grad():
        expected = predictor.task.scored(predictor.model, {"image": torch.from_numpy(images)}).argmax(1)  # type: ignore[attr-defined]
    assert len(np.unique(expected)) > 1
    found = np.stack(predictor(list(images)))
    assert (found == expected.numpy()).mean() > 0.999  # batches of another size round otherwise


@pytest.mark.parametrize(("height", "width"), [(64, 64), (200, 350), (700, 512)])
@pytest.mark.parametrize("box", [None, (40, 20, 60, 60)])
def test_points_are_in_the_pictures_own_pixels(
    height: int, width: int, box: tuple[float, float, float, float] | None
) -> None:
    image = np.zeros((height, width, 3), np.uint8)
    x, y = (47, 41) if box else (width * 0.7, height * 0.3)
    scale = (40 if box else max(height, width)) / 64
    across, down = np.meshgrid(np.arange(width), np.arange(height))
    image[..., 0] = np.rint(255 * np.exp(-((across - x) ** 2 + (down - y) ** 2) / (2 * (5 * scale) ** 2)))
    (points,) = known("landmarks", Brightest())([image], boxes=[box])
    assert points.shape == (51, 2)
    assert np.abs(points - (x, y)).max() < 1.5 * scale  # a quarter of a heatmap's pixel is one of the network


def test_mattes_keep_the_pictures_resolution() -> None:
    plate = noise(90, 160, 3, seed=1) // 4 + 60
    plate = cv2.resize(cv2.resize(plate, (16, 9)), (160, 90))
    image = plate.copy()
    fine = noise(30, 50, 3, seed=2) // 2 + 128  # detail that 32 pixels do not hold
    image[30:60, 40:90] = fine
    predictor = known("matting", Difference())
    (matte,) = predictor([image], [plate])
    assert matte.shape == (90, 160, 4)
    inside = matte[36:54, 46:84]
    assert (inside[..., 3] == 255).all()
    assert (matte[:20, :, 3] == 0).all()
    assert np.abs(inside[..., :3].astype(int) - fine[6:24, 6:44]).max() <= 1
    (same,) = predictor([image], [cv2.resize(plate, (80, 45))])
    assert np.mean(same[..., 3] != matte[..., 3]) < 0.1


def test_what_cannot_be_predicted_is_one_line() -> None:
    faces, mattes = known("segmentation", NearestColour()), known("matting", Difference())
    image = noise(40, 60, 3)
    for call, what in (
        (lambda: faces([image[..., 0]]), r"must be uint8 \[H, W, 3\] RGB"),
        (lambda: faces([image.astype(np.float32)]), "but is float32"),
        (lambda: faces([image], [image]), "takes no backgrounds"),
        (lambda: faces([image], boxes=[(0, 0, 61, 10)]), "must lie in its picture of 60x40"),
        (lambda: mattes([image]), "needs one background for each picture"),
        (lambda: mattes([image], [noise(60, 40, 3)]), "must have its picture's proportions, 60x40, but is 40x60"),
    ):
        with pytest.raises(ValueError, match=what) as caught:
            call()
        assert "\n" not in str(caught.value)
    assert faces([]) == []


# -- folders ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", SPECS)
@pytest.mark.parametrize("method", ["none", "adabn", "real_bn", "dsbn", "dson", "adain"])
def test_a_folder_gives_the_model_back_to_the_bit(tmp_path: Path, kind: str, method: NetworkMethod) -> None:
    model = network(kind, method)
    save(tmp_path, model, file_of(kind, method))
    loaded = Predictor.load(tmp_path / "model.json", "cpu")
    image = torch.rand(2, 3, *(SPECS[kind].resolution,) * 2, generator=torch.Generator().manual_seed(1))
    given = (image, image.flip(2)) if kind == "matting" else (image,)
    with torch.no_grad():
        before, after = model(*given), loaded.model(*given)
    pairs = zip(before, after, strict=True) if kind == "matting" else [(before, after)]
    assert all(torch.equal(one, other) for one, other in pairs)


def test_a_folder_that_is_none_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="must be a folder that `python -m search export` wrote"):
        Predictor.load(tmp_path)
    exported(tmp_path, "segmentation")
    text = (tmp_path / "model.json").read_text()
    (tmp_path / "model.json").write_text(text.replace('"kind": "segmentation"', '"kind": "singing"'))
    with pytest.raises(ValueError, match=r"model\.json: task\.kind: must be one of"):
        Predictor.load(tmp_path)
    (tmp_path / "model.json").write_text(text.replace('"width": 0.0625', '"width": 0.125'))
    with pytest.raises(ValueError, match=r"weights\.pt: must hold the weights of the task"):
        Predictor.load(tmp_path)
    (tmp_path / "model.json").write_text(text[:100])
    with pytest.raises(ValueError, match=r"model\.json"):
        Predictor.load(tmp_path)
    with pytest.raises(ValueError, match="device must be auto, cpu or one that is here"):
        Predictor.load(exported(tmp_path / "good", "segmentation"), "abacus")


# -- the command ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Done:
    returncode: int
    stderr: str


def predict(*arguments: object) -> Done:
    """Runs the command in this process."""
    said = io.StringIO()
    argv = ["trainables", "predict", *map(str, arguments), "--device", "cpu"]
    with pytest.MonkeyPatch.context() as patch, redirect_stderr(said), redirect_stdout(io.StringIO()):
        patch.setattr(sys, "argv", argv)
        with pytest.raises(SystemExit) as ended:
            main()
    code = ended.value.code
    return Done(code if isinstance(code, int) else 0, said.getvalue())


def test_every_form_of_one_picture_gives_the_same_masks(tmp_path: Path) -> None:
    """Turned by EXIF, with transparency, as CMYK; grey ones of 8 and 16 bits, with and without a palette."""
    model = exported(tmp_path / "model", "segmentation")
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    upright = Image.fromarray(cv2.resize(noise(8, 6, 3), (60, 80), interpolation=cv2.INTER_CUBIC))
    upright.save(pictures / "rgb.png")
    turned = Image.Exif()
    turned[0x0112] = 6  # to be seen after a quarter turn clockwise
    upright.rotate(90, expand=True).save(pictures / "turned.png", exif=turned)
    upright.convert("RGBA").save(pictures / "rgba.png")
    upright.convert("CMYK").save(pictures / "cmyk.tif")
    grey = np.asarray(upright.convert("L"))
    Image.fromarray(grey).save(pictures / "grey.png")
    Image.fromarray(grey.astype(np.uint16) * 257).save(pictures / "grey16.png")
    Image.fromarray(grey).convert("P").save(pictures / "grey-palette.png")
    (pictures / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no picture")
    done = predict(model, pictures, pictures / "missing.png", tmp_path / "out")
    assert done.returncode == 1, done.stderr
    errors = done.stderr.strip().splitlines()
    assert [line.split(": ")[:2] for line in errors[:2]] == [
        ["error", str(pictures / "broken.jpg")],
        ["error", str(pictures / "missing.png")],
    ]
    assert errors[2] == "7 of 9 pictures done"
    assert len(errors) == 3
    masks = {path.name.split(".")[0]: Image.open(path) for path in (tmp_path / "out").glob("*.classes.png")}
    assert len(masks) == 7
    colours = ("rgb", "turned", "rgba", "cmyk"), ("grey", "grey16", "grey-palette")
    for names in colours:
        one = np.asarray(masks[names[0]])
        assert one.shape == (80, 60)
        assert len(np.unique(one)) > 1
        for name in names[1:]:
            assert (np.asarray(masks[name]) == one).all(), name
    assert masks["rgb"].mode == "P"
    shown = np.asarray(masks["rgb"].convert("RGB"))
    assert (shown == np.array([colour(k) for k in range(256)], np.uint8)[np.asarray(masks["rgb"])]).all()
    drawn = np.asarray(Image.open(tmp_path / "out" / "rgb.overlay.png"))
    assert drawn.shape == (80, 60, 3)


def test_landmarks_are_written_as_points_of_the_picture(tmp_path: Path) -> None:
    model = exported(tmp_path / "model", "landmarks", crop="face")
    image = noise(150, 200, 3)
    Image.fromarray(image).save(tmp_path / "face.png")
    done = predict(model, tmp_path / "face.png", tmp_path / "out", "--box", "20,10,120,110")
    assert (done.returncode, done.stderr) == (0, "")
    (expected,) = Predictor.load(model, "cpu")([image], boxes=[(20, 10, 120, 110)])
    written = read_points(tmp_path / "out" / "face.pts", 51) - 1  # the file's first pixel is (1, 1)
    assert np.abs(written - expected).max() <= 1e-4
    done = predict(model, tmp_path / "face.png", tmp_path / "out")
    assert done.returncode == 0
    assert "trained on squares around faces" in done.stderr


def test_mattes_need_their_backgrounds(tmp_path: Path) -> None:
    model = exported(tmp_path / "model", "matting")
    for folder in ("pictures", "plates"):
        (tmp_path / folder).mkdir()
        for k in range(2):
            Image.fromarray(noise(48, 64, 3, seed=k)).save(tmp_path / folder / f"{k}.png")
    done = predict(model, tmp_path / "pictures", tmp_path / "out")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "--background must be given" in done.stderr
    (tmp_path / "plates" / "1.png").unlink()
    done = predict(model, tmp_path / "pictures", tmp_path / "out", "--background", tmp_path / "plates")
    assert done.returncode == 1
    assert f"{tmp_path}/pictures/1.png" in done.stderr
    assert "must hold one background named 1, but has none" in done.stderr
    names = ("0.alpha.png", "0.checkerboard.png", "0.foreground.png")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == list(names)
    alpha, board, cutout = (Image.open(tmp_path / "out" / name) for name in names)
    assert (alpha.mode, board.mode, cutout.mode) == ("L", "RGB", "RGBA")
    assert {one.size for one in (alpha, board, cutout)} == {(64, 48)}
    assert (np.asarray(cutout)[..., 3] == np.asarray(alpha)).all()


def test_nothing_is_written_over(tmp_path: Path) -> None:
    model = exported(tmp_path / "model", "segmentation")
    for name in ("a.png", "a.overlay.png", "b/a.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(noise(32, 32, 3)).save(tmp_path / name)
    same = predict(model, tmp_path / "a.png", tmp_path / "b" / "a.png", tmp_path / "out")
    assert "must have different names" in same.stderr
    over = predict(model, tmp_path / "a.png", tmp_path / "a.overlay.png", tmp_path)
    assert f"{tmp_path}/a.overlay.png: would be written over" in over.stderr
    assert {same.returncode, over.returncode} == {2}
    assert not (tmp_path / "out").exists()


# -- drawing ----------------------------------------------------------------------------------------------------------


def test_drawings_show_what_is_predicted() -> None:
    image = np.full((40, 40, 3), 100, np.uint8)
    labels = np.zeros((40, 40), np.uint8)
    labels[:20], labels[:, :5] = 3, 255
    drawn = draw(SPECS["segmentation"], image, labels)
    assert (drawn[20:] == 100).all()
    assert (drawn[:, :5] == 100).all()
    assert drawn[10, 20].tolist() == np.rint(0.4 * 100 + 0.6 * np.array(colour(3))).tolist()
    matte = np.zeros((64, 64, 4), np.uint8)
    matte[:32, :, 0] = matte[:32, :, 3] = 255
    drawn = draw(SPECS["matting"], image, matte)
    assert (drawn[:32] == (255, 0, 0)).all()
    assert drawn[32, 0].tolist() == [LIGHT] * 3
    assert len(np.unique(drawn[32:])) == 2
    points = np.stack([np.linspace(5, 35, 51), np.linspace(30, 8, 51)], 1)
    points[7] = np.nan
    drawn = draw(SPECS["landmarks"], image, points)
    changed = np.argwhere((drawn != image).any(2))[:, ::-1]
    assert len(changed) > 20
    far = np.linalg.norm(changed[:, None] - points[np.isfinite(points).all(1)], axis=2).min(1)
    assert far.max() < 8  # dots and the lines between neighbours
    assert (draw(SPECS["landmarks"], image, np.full((68, 2), np.nan)) == image).all()
    assert beside(SPECS["landmarks"], image, points, points).shape == (40, 120, 3)
    assert (image == 100).all()
