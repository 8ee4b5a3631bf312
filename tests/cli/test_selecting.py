"""Which images are taken of those that were typed."""

from __future__ import annotations

from pathlib import Path

import pytest

from parimg.cli.selecting import select
from parimg.errors import EmptySourceError
from parimg.sources.as_source import source_from_spec


@pytest.fixture
def folder(jobs_folder: Path) -> str:
    for name in ("a.png", "B.PNG", "c.jpg", "d.tif", "below/e.png", "below/f.npy", "below/.hidden.png"):
        path = Path("set[2]", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return "set[2]"


def keys(*images: str, **options: object) -> list[str]:
    source = select(list(images), **options)
    found = [image.key for image in source]
    assert [image.key for image in source_from_spec(source.spec())] == found  # a job can go on with it
    return [key.removeprefix("set[2]/") for key in found]


def test_extensions_choose_in_a_folder_and_below_it_in_either_case(folder: str) -> None:
    assert sorted(keys(folder, extensions="png")) == ["B.PNG", "a.png", "below/e.png"]
    assert sorted(keys(folder, extensions=".JPG, *.tif,webp")) == ["c.jpg", "d.tif"]
    assert keys(folder, extensions="npy") == ["below/f.npy"]
    assert sorted(keys(folder, folder + "/below", extensions="npy,jpg")) == ["below/f.npy", "below/f.npy", "c.jpg"]
    with pytest.raises(EmptySourceError, match=r"no file below 'set\[2\]' ends in .webp or .bmp"):
        keys(folder, extensions="webp,bmp")


def test_a_sample_is_the_same_for_the_same_seed_and_keeps_the_order(folder: str) -> None:
    everything = keys(folder)
    assert len(everything) == 6
    samples = {tuple(keys(folder, sample=3, seed=seed)) for seed in range(20)}
    assert all(len(set(sample)) == 3 and list(sample) == [key for key in everything if key in sample]
               for sample in samples)  # fmt: skip
    assert len(samples) > 4  # of twenty
    assert keys(folder, sample=3, seed=7) == keys(folder, sample=3, seed=7)
    assert keys(folder, sample=99) == everything
    assert len(keys(folder, extensions="png", sample=2)) == 2


def test_a_sample_of_a_table_keeps_its_keys(folder: str) -> None:
    Path("list.txt").write_text("set[2]/a.png\nset[2]/below/../c.jpg\nhttps://example.org/z.png\n")
    assert keys("list.txt", sample=3) == keys("list.txt") == ["a.png", "c.jpg", "https://example.org/z.png"]
