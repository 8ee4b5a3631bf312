"""The match job against the published recipe, joblib and Ray, on the same two processes and the same images.

    python benchmarks/match_job.py [--rounds 3] [--times 10]

The published recipe is plain ipyparallel: ``lview.map`` over ``(path, D_1)`` with OpenCV's brute-force matcher.
parimg runs once with that same detector and matcher, so that only the dispatch differs, once with OpenCV's
detector and its own matcher, and once as it is. All start from running workers and count the wall time from the
first line of the user's code to the last result. All but the last must give the same counts; the last, whose
features are its own, those counts within 6 %.
"""

from __future__ import annotations

import argparse
import glob
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import ipyparallel as ipp
import numpy as np
import ray
from joblib import Parallel, delayed
from paired import print_setting

import parimg

DATA = Path(os.environ.get("PARIMG_DATA", Path(__file__).parent / "../../shared/data")).resolve()
N_ENGINES = 2


def count_matches(argument: tuple[str, np.ndarray]) -> tuple[str, int]:
    """The published function, for today's OpenCV."""
    import cv2

    path, reference = argument
    frame = cv2.imread(path, cv2.IMREAD_GRAYSCALE)
    _, descriptors = cv2.SIFT_create(nfeatures=5000).detectAndCompute(frame, mask=None)
    matches = cv2.BFMatcher(cv2.NORM_L2, crossCheck=True).match(reference, descriptors)
    return path, len(matches)


def reference_descriptors(path: str) -> np.ndarray:
    _, descriptors = cv2.SIFT_create(nfeatures=5000).detectAndCompute(cv2.imread(path, cv2.IMREAD_GRAYSCALE), None)
    return descriptors


def run_ray(paths: list[str]) -> dict[str, int]:
    reference = ray.put(reference_descriptors(paths[0]))
    count = ray.remote(lambda path, descriptors: count_matches((path, descriptors)))
    found = ray.get([count.remote(path, reference) for path in paths])
    return {f"{number}:{path}": count for number, (path, count) in enumerate(found)}


class MatchWithOpenCV(parimg.MatchSIFT):
    """parimg's job with the recipe's matcher, so that only the dispatch differs."""

    def __call__(self, image):
        import cv2

        found = self.detect(image)
        matcher = cv2.BFMatcher(cv2.NORM_L2, crossCheck=True)
        reference = self.reference_features.descriptors.astype(np.float32)
        matches = matcher.match(reference, found.descriptors.astype(np.float32))
        return {"features": len(found.descriptors), "matches": len(matches), "distance_median": None}


def run_recipe(client: ipp.Client, paths: list[str]) -> dict[str, int]:
    view = client.load_balanced_view()
    reference = reference_descriptors(paths[0])
    result = view.map_async(count_matches, [(path, reference) for path in paths])
    return {f"{number}:{path}": count for number, (path, count) in enumerate(result)}


def run_joblib(paths: list[str], pool: Parallel) -> dict[str, int]:
    reference = reference_descriptors(paths[0])
    found = pool(delayed(count_matches)((path, reference)) for path in paths)
    return {f"{number}:{path}": count for number, (path, count) in enumerate(found)}


def run_parimg(
    controller: parimg.Controller, task: parimg.MatchSIFT, paths: list[str], busy: list[float]
) -> dict[str, int]:
    job = controller.submit(task, paths, job_dir=tempfile.mkdtemp())
    records = list(job.in_order())
    # Share of the wall time after the first record in which the engines computed.
    first = min(record.started + record.decode_seconds + record.task_seconds for record in records)
    last = max(record.started + record.decode_seconds + record.task_seconds for record in records)
    computed = sum(
        max(
            0.0,
            min(record.started + record.decode_seconds + record.task_seconds, last) - max(record.started, first),
        )
        for record in records
    )
    busy.append(computed / (N_ENGINES * (last - first)))
    return {f"{number}:{record.uri}": record["matches"] for number, record in enumerate(records)}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--times", type=int, default=10, help="how often the 47 images are listed")
    options = parser.parse_args()
    images = sorted(glob.glob(f"{DATA}/templeRing/*.png"))

    with tempfile.TemporaryDirectory() as folder:
        # The same image under many names: a job runs each key once.
        paths = []
        for number in range(options.times):
            for image in images:
                paths.append(f"{folder}/{number}-{os.path.basename(image)}")
                os.link(image, paths[-1]) if os.stat(image).st_dev == os.stat(folder).st_dev else os.symlink(
                    image, paths[-1]
                )
        cluster = ipp.Cluster(n=N_ENGINES, log_level=40)
        recipe_client = cluster.start_and_connect_sync()
        recipe_client[:].use_cloudpickle().get()
        recipe_client[:].apply_sync(lambda: __import__("cv2"))
        pool = Parallel(n_jobs=N_ENGINES)
        ray.init(num_cpus=N_ENGINES, include_dashboard=False, log_to_driver=False)
        ray.get([ray.remote(lambda: __import__("cv2").__version__).remote() for _ in range(2 * N_ENGINES)])
        busy: dict[str, list[float]] = {"same matcher": [], "own matcher": [], "own detector": []}
        with parimg.start(n=N_ENGINES) as controller, pool:
            pool(delayed(abs)(number) for number in range(2 * N_ENGINES))
            contenders: dict[str, Callable[[], dict[str, int]]] = {
                "published recipe": lambda: run_recipe(recipe_client, paths),
                "joblib": lambda: run_joblib(paths, pool),
                "Ray": lambda: run_ray(paths),
                "parimg, OpenCV's both": lambda: run_parimg(
                    controller, MatchWithOpenCV(paths[0], detector="opencv"), paths, busy["same matcher"]
                ),
                "parimg, OpenCV's SIFT": lambda: run_parimg(
                    controller, parimg.MatchSIFT(paths[0], detector="opencv"), paths, busy["own matcher"]
                ),
                "parimg": lambda: run_parimg(controller, parimg.MatchSIFT(paths[0]), paths, busy["own detector"]),
            }
            seconds: dict[str, list[float]] = {name: [] for name in contenders}
            for _ in range(options.rounds):
                answers = []
                for name, run in contenders.items():
                    begin = time.perf_counter()
                    answers.append(run())
                    seconds[name].append(time.perf_counter() - begin)
                *same, own = answers
                assert all(answer == same[0] for answer in same), "the contenders disagree"
                near = all(abs(own[key] - count) <= 0.06 * count for key, count in same[0].items())
                assert near, "the counts of our own features differ by more than 6 %"
        ray.shutdown()
        recipe_client.close()
        cluster.stop_cluster_sync()

    print_setting("ipyparallel", "joblib", "ray", "numpy", "numba", "opencv-python-headless")
    print(
        f"{len(paths)} images of templeRing, {N_ENGINES} engines, {options.rounds} rounds; counts as compared"
    )
    baseline = statistics.median(seconds["published recipe"])
    for name, values in seconds.items():
        median = statistics.median(values)
        ratio = median / baseline
        print(f"{name:<24}{median:8.1f} s   wall time / recipe's {ratio:6.3f}   throughput x {1 / ratio:5.2f}")
    for name, shares in busy.items():
        print(f"engines busy after the first record, {name}: {statistics.median(shares):.1%}")


if __name__ == "__main__":
    main()
