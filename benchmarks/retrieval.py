"""How good and how quick retrieval is: mean average precision of its stages, and searching 1 000 images.

    python benchmarks/retrieval.py

needs the folder of real images with its model (PARIMG_DATA). The images are indexed by two engines, which takes
most of the time. Searches are timed on an index of 1 000 different images. The time of the regions alone is taken
with the 104 files of the first index under 1 000 names, so that they stay in memory.
"""

import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from paired import print_setting
from retrieval_set import judge, make_many, make_set

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
DATA = Path(os.environ.get("PARIMG_DATA", ROOT.parent / "shared" / "data"))

import parimg  # noqa: E402

_RERANKED = 1000
_ASPECT_RANGE = (1 / 1.1, 1.1)


def time_reranking(controller, index, part):
    """Seconds for the regions of 1 000 indexed images, on engines that have seen them before."""
    query = index.describe(part.path, part.box)
    task = parimg.RegionSearch(query.region, query.aspect_ratio, _ASPECT_RANGE, step=3)
    files = [os.path.join(folder, name) for folder, _, names in os.walk(index.directory) for name in names]
    files = sorted(file for file in files if "/regions/" in file)
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for i in range(_RERANKED):
            paths.append(os.path.join(folder, f"{i:04d}.npy"))
            os.link(files[i % len(files)], paths[-1])
        seconds = []
        for attempt in range(9):
            begin = time.perf_counter()
            job = controller.submit(
                task, paths, job_dir=os.path.join(folder, f"job{attempt}"), chunk_size=_RERANKED // 8
            )
            assert all(record.ok for record in job)
            seconds.append(time.perf_counter() - begin)
    return seconds[2:]


def time_search(controller, index, query):
    """Seconds for whole searches: shortlist, regions on engines that have seen them before, expansion."""
    seconds = []
    for _ in range(9):
        begin = time.perf_counter()
        hits = index.search(query, rerank=_RERANKED, expand=3, controller=controller)
        seconds.append(time.perf_counter() - begin)
    assert len(hits) == 20
    assert all(hit.box is not None for hit in hits)
    return seconds[2:]


def main():
    print_setting("numpy", "numba", "opencv-python-headless", "ipyparallel")
    with tempfile.TemporaryDirectory() as name, parimg.start(2) as controller:
        folder = Path(name)
        variants, parts = make_set(folder, DATA)
        model = DATA / "models" / "efficientnet_lite0_features.onnx"
        job = parimg.index_images(controller, folder / "images", folder / "index", model=model)
        job.wait()
        index = parimg.ImageIndex(folder / "index")
        print(f"{len(parts)} queries, {len(index)} images; {len(index) / job.wall_time:.1f} indexed a second")
        for judgement, of in zip(
            judge(index, variants, parts), ("all", "without the query's own image"), strict=True
        ):
            print(f"{of}:")
            for stage, value in judgement.precision.items():
                print(f"  {stage:<12} mean average precision {value:.3f}")
            print(f"  mean overlap of found regions with the true ones {judgement.mean_overlap:.2f}")
        seconds = time_reranking(controller, index, parts[0])
        print(
            f"regions of {len(index)} images {_RERANKED} times, 2 engines, warm: {np.median(seconds):.2f} s, best "
            f"{min(seconds):.2f}"
        )
        query = index.describe(parts[0].path, parts[0].box)
        make_many(folder / "many", DATA, _RERANKED)
        parimg.index_images(controller, folder / "many", folder / "many.index", model=model).wait()
        many = parimg.ImageIndex(folder / "many.index")
        for where, engines in (("2 engines", controller), ("this process", None)):
            seconds = time_search(engines, many, query)
            print(
                f"search of {len(many)} images, all re-ranked, expanded, {where}, warm: "
                f"{np.median(seconds):.2f} s, best {min(seconds):.2f}"
            )


if __name__ == "__main__":
    main()
