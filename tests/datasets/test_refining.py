"""A pack refined: what mattes.py makes of each sample, the same by any number of processes, and what fails is told."""

import re
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from datasets import Pack, PackError, write_pack
from datasets.mattes import estimate_foreground, refine_alpha
from datasets.packing import BadFiles, pack_data_set
from datasets.refining import Refinement

pytestmark = pytest.mark.skipif(find_spec("pymatting") is None, reason="needs the package pymatting")
SIZE = 48


def person(seed: int) -> dict[str, np.ndarray | str]:
    """A soft disc before stripes, and a rough matte of it that is too small; landmarks are for others to read."""
    rng = np.random.Generator(np.random.Philox(seed))
    y, x = np.mgrid[:SIZE, :SIZE] + 0.5
    radius = np.hypot(x - 24 - rng.uniform(-2, 2), y - 24)
    true = np.clip((16 - radius) / 4 + 0.5, 0, 1)[..., None]
    colours = rng.uniform(0, 255, (2, 3))
    behind = np.where((x // 6 % 2 == 0)[..., None], 255 - colours[0], colours[1])
    return {
        "id": f"p/{seed}",
        "landmarks": rng.uniform(0, SIZE, (5, 2)).astype(np.float32),
        "alpha": np.where(radius < 13, 255, 0).astype(np.uint8),
        "image": np.rint(true * colours[0] + (1 - true) * behind).astype(np.uint8),
    }


def write(path: Path, count: int = 5, **changes: Any) -> Pack:
    """`changes` are columns by the sample's number."""
    samples = [person(i) for i in range(count)]
    for name, by_number in changes.items():
        for i, value in by_number.items():
            samples[i][name] = value
    return write_pack(path, samples, source={"format": "test"}, classes=("a", "b"))


@pytest.fixture
def rough(tmp_path: Path) -> Pack:
    return write(tmp_path / "rough")


@pytest.fixture
def solver(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """solver(solve): stands for pymatting where only what it answers matters."""

    def put(solve: Callable[..., np.ndarray]) -> None:
        def foreground(image: np.ndarray, alpha: np.ndarray) -> np.ndarray:
            return image

        module = SimpleNamespace(estimate_alpha_cf=solve, estimate_foreground_ml=foreground)
        monkeypatch.setitem(sys.modules, "pymatting", module)

    return put


def test_every_sample_is_refined_and_keeps_all_else(tmp_path: Path, rough: Pack) -> None:
    refinement = Refinement.of(rough, inner=0.1, outer=0.15, side=32)
    fine = pack_data_set(refinement, tmp_path / "fine")
    fine.verify()
    assert fine.columns == ("id", "landmarks", "alpha", "image", "foreground")
    assert (len(fine), fine.manifest.classes) == (5, ("a", "b"))
    source = {"format": "refined", "digest": rough.digest, "inner": 0.1, "outer": 0.15, "side": 32}
    assert fine.manifest.source.items() >= source.items()
    assert fine.manifest.source["of"] == {"format": "test"}
    for i in range(5):
        before, after = rough.sample(i), fine.sample(i)
        assert after["id"] == f"p/{i}"
        for name in ("landmarks", "image"):
            np.testing.assert_array_equal(after[name], before[name])
        alpha = refine_alpha(before["image"], before["alpha"], inner=0.1, outer=0.15, side=32)
        np.testing.assert_array_equal(after["alpha"], alpha)
        assert (alpha != before["alpha"]).any()
        np.testing.assert_array_equal(after["foreground"], estimate_foreground(before["image"], alpha))


def test_the_pack_is_the_same_for_any_number_of_processes_and_threads(tmp_path: Path, rough: Pack) -> None:
    from threadpoolctl import threadpool_limits

    packs = [pack_data_set(Refinement.of(rough), tmp_path / f"{n}", workers=n, part=2) for n in (1, 2)]
    with threadpool_limits(4, user_api="blas"):
        packs.append(pack_data_set(Refinement.of(rough), tmp_path / "threads"))
    assert packs[0].manifest == packs[1].manifest == packs[2].manifest


def test_a_refined_matte_is_nearer_to_the_true_one(rough: Pack) -> None:
    for i in range(5):
        rng = np.random.Generator(np.random.Philox(i))
        y, x = np.mgrid[:SIZE, :SIZE] + 0.5
        true = 255 * np.clip((16 - np.hypot(x - 24 - rng.uniform(-2, 2), y - 24)) / 4 + 0.5, 0, 1)
        fine = Refinement.of(rough, inner=0.05, outer=0.15).sample(f"p/{i}")["alpha"]
        assert np.abs(fine - true).mean() < 0.5 * np.abs(rough.sample(i)["alpha"] - true).mean()


def test_it_goes_on_where_it_was_stopped(tmp_path: Path, rough: Pack, solver: Callable[..., None]) -> None:
    solved: list[int] = []

    def solve(image: np.ndarray, known: np.ndarray) -> np.ndarray:
        solved.append(1)
        return np.full(known.shape, 0.5)

    def stop(done: int) -> None:
        raise KeyboardInterrupt

    solver(solve)
    whole = pack_data_set(Refinement.of(rough), tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        pack_data_set(Refinement.of(rough), tmp_path / "out", part=2, progress=stop)
    del solved[:]
    again = pack_data_set(Refinement.of(rough), tmp_path / "out", part=2)
    assert len(solved) == 4  # the first, which tells the columns, and the three that were not done
    assert again.manifest == whole.manifest
    with pytest.raises(KeyboardInterrupt):
        pack_data_set(Refinement.of(rough), tmp_path / "out", part=2, overwrite=True, progress=stop)
    del solved[:]
    pack_data_set(Refinement.of(rough, inner=0.02), tmp_path / "out", part=2, overwrite=True)
    assert len(solved) == 6  # another option: nothing is taken over


def test_who_fills_the_picture_and_nobody_are_kept_and_a_speck_is_told(
    tmp_path: Path, command_line: Callable[..., Any]
) -> None:
    everyone, nobody = (np.full((SIZE, SIZE), value, np.uint8) for value in (255, 0))
    speck = nobody.copy()
    speck[20, 20] = 255
    rough = write(tmp_path / "rough", alpha={1: everyone, 2: nobody, 3: speck})
    line = rf"{re.escape(str(rough.path))}: sample p/3: a matte must be opaque further from its edge than .*"
    code, _, error = command_line("refine", rough.path, tmp_path / "fine")
    assert code == 2
    assert re.fullmatch(rf"error: 1 of 5 samples cannot be packed; .* --skip-bad\n  {line}\n", error)
    assert not (tmp_path / "fine").exists()
    code, out, error = command_line("refine", rough.path, tmp_path / "fine", "--skip-bad")
    assert code == 0
    assert re.fullmatch(rf"skipped: {line}\n", error)
    fine = Pack.open(tmp_path / "fine")
    assert fine.digest[:12] in out
    assert [fine.sample(i)["id"] for i in range(4)] == ["p/0", "p/1", "p/2", "p/4"]
    assert list(fine.manifest.source["skipped"]) == ["p/3"]
    for row, alpha in ((1, everyone), (2, nobody)):
        np.testing.assert_array_equal(fine.sample(row)["alpha"], alpha)
        np.testing.assert_array_equal(fine.sample(row)["foreground"], fine.sample(row)["image"])


def test_a_matte_that_is_not_solved_is_told(tmp_path: Path, rough: Pack, solver: Callable[..., None]) -> None:
    def fail(image: np.ndarray, known: np.ndarray) -> np.ndarray:
        raise ValueError("did not converge\nwithin 10000 iterations")

    def give_no_number(image: np.ndarray, known: np.ndarray) -> np.ndarray:
        return np.full(known.shape, np.nan)

    for solve, reason in ((fail, "did not converge within 10000 iterations"), (give_no_number, "not a number")):
        solver(solve)
        with pytest.raises(BadFiles, match=r"5 of 5 samples cannot be packed") as error:
            pack_data_set(Refinement.of(rough), tmp_path / "fine")
        lines = str(error.value).splitlines()
        assert len(lines) == 6
        says = f"the matte cannot be solved for ({reason}); leave it out or change inner and outer"
        assert lines[1] == f"{rough.path}: sample p/0: {says}"


def test_mistakes_are_one_line(
    tmp_path: Path, rough: Pack, command_line: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(match: str, *arguments: Any) -> None:
        code, out, error = command_line("refine", *arguments)
        assert (code, out) == (2, "")
        assert re.fullmatch(f"error: {match}\n", error), error
        assert not (tmp_path / "fine").exists()

    fine = tmp_path / "fine"
    refused(r".*none: no pack here .*", tmp_path / "none", fine)
    refused(r"`0 < inner, outer < 0.5` must hold, but got \(inner=0.5, outer=0.025\)", rough.path, fine, "--inner", 0.5)
    refused(r"`side >= 16` must hold, but got 8", rough.path, fine, "--side", 8)
    refused(r"`workers >= 1` must hold, but got 0", rough.path, fine, "--workers", 0)
    refused(r".*rough: exists; choose another path or pass overwrite \(--overwrite\)", rough.path, rough.path)
    plain = write_pack(tmp_path / "plain", ({"id": "a", "image": person(0)["image"]},), source={})
    refused(r".*plain: must have id, .* and alpha uint8\[H, W\] to be refined, but has id string, .*", plain.path, fine)
    twice = write(tmp_path / "twice", id={3: "p/1"})
    refused(r".*twice: ids must differ for a pack to be refined, but two samples are 'p/1'", twice.path, fine)
    monkeypatch.setitem(sys.modules, "pymatting", None)
    refused(r"mattes are refined with pymatting, which is not installed: pip install .*", rough.path, fine)


def test_a_damaged_pack_is_not_refined(rough: Pack) -> None:
    data = Path(rough.path) / rough.manifest.files[0].name
    content = bytearray(data.read_bytes())
    content[content.index(rough.sample(2)["image"].tobytes())] ^= 1
    data.write_bytes(content)
    with pytest.raises(PackError, match=r"rough.*image of sample 2 is not what was written"):
        Refinement.of(Pack.open(rough.path))


def test_kept_mattes_stay_and_have_foregrounds(rough: Pack) -> None:
    kept = Refinement.of(rough, keep_mattes=True)
    assert kept.source["keep_mattes"] is True
    for i, name in enumerate(kept.names):
        before, after = rough.sample(i), kept.sample(name)
        np.testing.assert_array_equal(after["alpha"], before["alpha"])
        expected = estimate_foreground(np.asarray(before["image"]), np.asarray(before["alpha"]))
        np.testing.assert_array_equal(after["foreground"], expected)
