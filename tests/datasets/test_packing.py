"""A data set becomes the same pack by any number of processes and interruptions, and what is bad in it is told."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datasets import Pack
from datasets.formats import read
from datasets.packing import PART, BadFiles, pack_data_set
from datasets.whole import whole_folder

from .test_celebamask_hq import label_map, write_map


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Three parts of photographs, the last of them one short."""
    labels = label_map(16)
    for k in range(3 * PART - 1):
        write_map(tmp_path / "source", f"{k}", np.roll(labels, k, axis=1))
    return tmp_path / "source"


def reading(source: Path, **options):
    return read("celebamask_hq", source, size=16, **options)


def test_the_pack_is_the_same_for_any_number_of_processes(tmp_path: Path, source: Path) -> None:
    told: list[int] = []
    one = pack_data_set(reading(source), tmp_path / "one", progress=told.append)
    two = pack_data_set(reading(source), tmp_path / "two", workers=2)
    assert one.digest == two.digest
    assert one.manifest == two.manifest
    assert sum(told) == len(one) == 3 * PART - 1
    for i, sample in enumerate(reading(source).samples):
        got = one.sample(i)
        assert got["id"] == sample["id"]
        np.testing.assert_array_equal(got["image"], sample["image"])
        np.testing.assert_array_equal(got["segmentation"], sample["segmentation"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "source", "two"]


class Counting:
    """A data set that keeps the names that were read of it."""

    def __init__(self, data) -> None:
        self.data, self.read, self.names, self.options = data, [], data.names, data.options

    def files(self, name: str) -> tuple[Path, ...]:
        return self.data.files(name)

    def record(self, name: str):
        self.read.append(name)
        return self.data.record(name)


def test_it_goes_on_where_it_was_stopped_and_reads_anew_what_has_changed(tmp_path: Path, source: Path) -> None:
    whole = pack_data_set(reading(source), tmp_path / "whole")

    def stop(samples: int) -> None:
        raise KeyboardInterrupt

    def pack() -> tuple[Pack, list[str]]:
        counting = Counting(reading(source).data)
        return pack_data_set(replace(reading(source), data=counting), tmp_path / "out", overwrite=True), counting.read

    with pytest.raises(KeyboardInterrupt):
        pack_data_set(reading(source), tmp_path / "out", progress=stop)
    assert not (tmp_path / "out").exists()
    again, names = pack()
    assert again.digest == whole.digest
    assert not (tmp_path / ".out.parts").exists()
    assert sorted(names, key=int) == ["0", *map(str, range(PART, 3 * PART - 1))]  # the first one tells the columns

    with pytest.raises(KeyboardInterrupt):
        pack_data_set(reading(source), tmp_path / "out", overwrite=True, progress=stop)
    Image.new("RGB", (16, 16), "red").save(source / "images" / "1.jpg")
    changed, names = pack()
    assert "2" in names
    assert changed.sample(1)["image"][8, 8, 0] > 200


def test_bad_samples_are_all_told_and_nothing_is_written(tmp_path: Path, source: Path) -> None:
    (source / "images" / "3.jpg").write_bytes(b"no picture")
    (source / "masks" / "100.png").unlink()
    with pytest.raises(BadFiles) as error:
        pack_data_set(reading(source), tmp_path / "out", workers=2)
    head, first, second = str(error.value).splitlines()
    assert head == f"2 of {3 * PART - 1} samples cannot be packed; mend them, or leave them out with --skip-bad"
    assert first.startswith(f"{source}/images/3.jpg: not a readable image")
    assert second == f"{source}/masks/100.png: the file is missing"
    assert not (tmp_path / "out").exists()


def test_bad_samples_can_be_left_out_and_stand_in_the_manifest(tmp_path: Path, source: Path) -> None:
    (source / "masks" / "0.png").unlink()  # the first: the columns are those of the first good one
    pack = pack_data_set(reading(source), tmp_path / "out", skip_bad=True)
    assert len(pack) == 3 * PART - 2
    assert pack.manifest.source["skipped"] == {"0": f"{source}/masks/0.png: the file is missing"}
    assert "0" not in {pack.sample(i)["id"] for i in range(len(pack))}
    rest = pack_data_set(reading(source, rows=f"0:{PART}"), tmp_path / "some", skip_bad=True)
    assert len(rest) in (PART, PART - 1)


def test_a_part_without_a_good_sample_and_a_set_without_one(tmp_path: Path, source: Path) -> None:
    names = [path.stem for path in (source / "masks").iterdir()]
    for name in sorted(names, key=int)[:PART]:
        (source / "masks" / f"{name}.png").unlink()
    assert len(pack_data_set(reading(source), tmp_path / "out", skip_bad=True)) == 2 * PART - 1
    for path in (source / "masks").iterdir():
        path.unlink()
    with pytest.raises(
        BadFiles, match=rf"{3 * PART - 1} of {3 * PART - 1} samples cannot be packed(.|\n)*and 171 more"
    ):
        pack_data_set(reading(source), tmp_path / "none", skip_bad=True)


def test_a_pack_that_is_there_is_refused_before_anything_is_read(tmp_path: Path, source: Path) -> None:
    with whole_folder(tmp_path / "out", lambda _: None) as folder:
        (folder / "note").write_text("mine")
    with pytest.raises(ValueError, match="exists and is not a pack"):
        pack_data_set(reading(source), tmp_path / "out", overwrite=True)
    assert not (tmp_path / ".out.parts").exists()


def test_a_sample_with_other_columns_than_the_first_is_bad(tmp_path: Path) -> None:
    pytest.importorskip("tifffile")
    from .test_face_api import write_scene

    for scene in range(2):
        write_scene(tmp_path / "scenes", scene)
    (tmp_path / "scenes" / "1.info.json").write_text(
        (tmp_path / "scenes" / "1.info.json").read_text().replace('"pupil_coordinates"', '"other"')
    )
    with pytest.raises(BadFiles, match=r"1\.rgb\.png: must give the columns .* but pupils is in one of the two only"):
        pack_data_set(read("face_api", tmp_path / "scenes", size=16), tmp_path / "out")
    assert isinstance(
        pack_data_set(read("face_api", tmp_path / "scenes", size=16), tmp_path / "out", skip_bad=True), Pack
    )
