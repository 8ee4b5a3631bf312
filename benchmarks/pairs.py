"""All pairs: speed against pycolmap, what is verified, and many pairs.

    python benchmarks/pairs.py temple      # 47 views, all pairs, a reconstruction: some minutes
    python benchmarks/pairs.py overlap     # pictures by known homographies, and the Lund photographs: some minutes
    python benchmarks/pairs.py many --images 400 --features 2000 [--kill]

pycolmap runs in a process of its own: beside cv2 it crashes in libpng.
"""

import argparse
import contextlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil
from paired import print_setting

DATA = Path(os.environ.get("PARIMG_DATA", Path(__file__).parent.parent / ".." / "shared" / "data")).resolve()
PHOTOGRAPHS = [
    "astronaut",
    "camera",
    "coffee",
    "chelsea",
    "brick",
    "grass",
    "gravel",
    "retina",
    "rocket",
    "coins",
    "moon",
    "page",
    "hubble_deep_field",
    "immunohistochemistry",
    "cell",
]
VIEWS = 20  # of each photograph, 300 in all
SIDE = 400  # px of a view
SEEDS = 5  # of each mapper

COLMAP = """
import json, shutil, sys, time
from pathlib import Path
import pycolmap

def points_of(model):
    return sum(point.track.length() >= 3 for point in model.points3D.values())

def database(images, path, threads, camera_mode="AUTO"):
    begin = time.perf_counter()
    extraction, matching = pycolmap.FeatureExtractionOptions(), pycolmap.FeatureMatchingOptions()
    for options in (extraction, matching):
        options.num_threads, options.use_gpu = threads, False
    mode = getattr(pycolmap.CameraMode, camera_mode)
    pycolmap.extract_features(path, images, camera_mode=mode, extraction_options=extraction)
    pycolmap.match_exhaustive(path, matching_options=matching)
    return {"seconds": time.perf_counter() - begin, "cpu": time.process_time()}

def reconstruction(images, path, folder, mapper="incremental", seeds=1):
    # What the best of so many seeds gives, and how many images each registers.
    models, registered = [], []
    for seed in range(seeds):
        Path(f"{folder}-{seed}").mkdir(parents=True)
        pycolmap.set_random_seed(seed)
        if mapper == "global":
            options = pycolmap.GlobalPipelineOptions()
            run = pycolmap.global_mapping
        else:
            options = pycolmap.IncrementalPipelineOptions()
            run = pycolmap.incremental_mapping
        if mapper == "forward":
            options.mapper.init_max_forward_motion, options.mapper.init_min_tri_angle = 1.0, 4.0
        options.random_seed, options.num_threads = seed, 2
        found = run(path, images, f"{folder}-{seed}", options=options).values()
        models += found
        registered.append(max((model.num_reg_images() for model in found), default=0))
    if not models:
        return {"registered": registered, "error": float("nan"), "points": 0, "shared": []}
    best = max(models, key=lambda model: model.num_reg_images())
    seen = {}
    for number, point in best.points3D.items():
        for element in point.track.elements:
            seen.setdefault(best.images[element.image_id].name, set()).add(number)
    shared = [
        [a, b, len(seen[a] & seen[b]) / min(len(seen[a]), len(seen[b]))] for a in seen for b in seen if a < b
    ]
    return {
        "registered": registered,
        "error": best.compute_mean_reprojection_error(),
        "points": points_of(best),
        "shared": shared,
    }

kind, arguments, answer = sys.argv[1], sys.argv[2:-1], sys.argv[-1]
arguments = [int(each) if each.isdigit() else each for each in arguments]
Path(answer).write_text(json.dumps({"database": database, "reconstruction": reconstruction}[kind](*arguments)))
"""


def colmap(kind, *arguments):
    """Answer of pycolmap, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        answer = os.path.join(folder, "answer.json")
        with open(os.path.join(folder, "log"), "wb") as log:
            command = [sys.executable, "-c", COLMAP, kind, *map(str, arguments), answer]
            subprocess.run(command, stdout=log, stderr=log, check=True)
        return json.loads(Path(answer).read_text())


def cpu_of(processes):
    return sum(sum(each.cpu_times()[:2]) for each in processes if each.is_running())


# -- templeRing ------------------------------------------------------------------------------------------------


def temple(rounds, threshold):
    import parimg

    images = str(DATA / "templeRing")
    with tempfile.TemporaryDirectory() as folder, parimg.start(2) as ctl:
        engines = [psutil.Process(), *psutil.Process().children(recursive=True)]

        def ours(number):
            begin, before = time.perf_counter(), cpu_of(engines)
            job = ctl.match_pairs(images, job_dir=f"{folder}/pairs{number}", verify_threshold=threshold)
            job.wait()
            job.to_colmap(f"{folder}/ours.db", overwrite=True)
            return {"seconds": time.perf_counter() - begin, "cpu": cpu_of(engines) - before}

        def theirs():
            for name in ("theirs.db", "theirs.db-wal", "theirs.db-shm"):
                with contextlib.suppress(FileNotFoundError):
                    os.remove(f"{folder}/{name}")
            return colmap("database", images, f"{folder}/theirs.db", 2)

        ours("warm")  # kernels are loaded by the engines
        runs = [(ours(number), theirs()) for number in range(rounds)]
        for what in ("seconds", "cpu"):
            mine, peer = (sorted(run[side][what] for run in runs)[rounds // 2] for side in (0, 1))
            ratio = f"parimg {mine:.2f}, pycolmap {peer:.2f}, {peer / mine:.2f} times"
            print(f"templeRing, 1081 pairs, {what}: {ratio}")
        for name in ("ours", "theirs"):
            found = colmap("reconstruction", images, f"{folder}/{name}.db", f"{folder}/{name}")
            print(
                f"reconstruction of {name}: {found['registered'][0]} of 47 registered, {found['error']:.3f} px, "
                f"{found['points']} points with tracks of 3 or more"
            )


# -- what is verified ------------------------------------------------------------------------------------------


def make_views(folder):
    """300 views of photographs; which photograph each shows, and its homography from the photograph."""
    import cv2
    import numpy as np
    import skimage.data

    rng = np.random.default_rng(16)
    views = {}
    for name in PHOTOGRAPHS:
        photograph = np.asarray(getattr(skimage.data, name)())
        if photograph.ndim == 3:
            photograph = cv2.cvtColor(photograph[..., :3], cv2.COLOR_RGB2BGR)
        height, width = photograph.shape[:2]
        for number in range(VIEWS):
            side = min(height, width) * rng.uniform(0.6, 0.95)
            angle = rng.uniform(-0.4, 0.4)
            turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
            room = [max(side / 2 + 1, length - side / 2) for length in (width, height)]
            centre = rng.uniform([side / 2] * 2, room)
            corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * side / 2
            corners = corners @ turn.T + centre + rng.uniform(-0.06, 0.06, (4, 2)) * side
            target = np.array([[0, 0], [SIDE, 0], [SIDE, SIDE], [0, SIDE]])
            window = corners.astype(np.float32)
            homography = cv2.getPerspectiveTransform(window, target.astype(np.float32))
            view = cv2.warpPerspective(photograph, homography, (SIDE, SIDE))
            file = f"{name}_{number:02d}.png"
            cv2.imwrite(os.path.join(folder, file), view)
            # What shows the photograph: the part of the window that lies in it.
            whole = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
            views[file] = (name, cv2.intersectConvexConvex(window, whole)[1])
    return views


def overlap(threshold):
    import cv2

    import parimg

    with tempfile.TemporaryDirectory() as folder, parimg.start(2) as ctl:
        os.mkdir(f"{folder}/views")
        views = make_views(f"{folder}/views")
        job = ctl.match_pairs(f"{folder}/views", job_dir=f"{folder}/views.pairs", verify_threshold=threshold)
        job.wait()
        near = near_verified = different = different_verified = 0
        missed = []
        for pair in job:
            (first, one), (second, other) = views[pair.first], views[pair.second]
            if first != second:
                different += 1
                different_verified += pair.model is not None
                continue
            common = cv2.intersectConvexConvex(one, other)[0]
            if common > 0.5 * max(cv2.contourArea(one), cv2.contourArea(other)):
                near += 1
                near_verified += pair.model is not None
                if pair.model is None:
                    missed.append(first)
        print(
            f"{len(views)} views: of {near} pairs that overlap by more than half, {near_verified} are verified "
            f"({near_verified / near:.2%}; missed { ({name: missed.count(name) for name in set(missed)}) }); of "
            f"{different} of different photographs, {different_verified}"
        )
        lund = str(DATA / "lund")
        job = ctl.match_pairs(lund, job_dir=f"{folder}/lund.pairs", verify_threshold=threshold)
        job.wait()
        job.to_colmap(f"{folder}/ours.db", cameras="one")
        verified = {(pair.first, pair.second) for pair in job if pair.model}
        colmap("database", lund, f"{folder}/theirs.db", 2, "SINGLE")
        for mapper, name in itertools.product(("incremental", "forward", "global"), ("ours", "theirs")):
            run = colmap("reconstruction", lund, f"{folder}/{name}.db", f"{folder}/{name}-{mapper}", mapper, SEEDS)
            print(
                f"Lund, {mapper} mapper, {name}: registered {run['registered']}, the best {run['error']:.2f} px, "
                f"{run['points']} points with tracks of 3 or more"
            )
        # The last run is the global one of pycolmap's database, which has all images.
        near_pairs = [tuple(sorted((a, b))) for a, b, share in run["shared"] if share > 0.5]
        found = sum(pair in verified for pair in near_pairs)
        print(
            f"Lund: {len(verified)} pairs verified; of {len(near_pairs)} pairs that share more than half of the "
            f"points of the last reconstruction, {found}"
        )


# -- many pairs ------------------------------------------------------------------------------------------------


def many(n_images, n_features, kill):
    """Features of templeRing and Lund under many names, all pairs; memory, journal, and a killed client."""
    folder = tempfile.mkdtemp(prefix="parimg-many-")
    try:
        os.mkdir(f"{folder}/images")
        files = [*sorted((DATA / "lund").glob("*.jpg")), *sorted((DATA / "templeRing").glob("*.png"))]
        for number, file in zip(range(n_images), itertools.cycle(files)):
            os.symlink(file, f"{folder}/images/{number:05d}{file.suffix}")
        command = [sys.executable, __file__, "many-run", folder, "--features", str(n_features)]
        if kill:
            first = subprocess.Popen(command, stdout=subprocess.DEVNULL)
            total = n_images * (n_images - 1) // 2
            while first.poll() is None and _matched(folder) < total // 2:
                time.sleep(0.5)
            first.send_signal(signal.SIGKILL)
            first.wait()
            print(f"killed at {_matched(folder)} of {total} pairs")
        subprocess.run(command, check=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _matched(folder):
    from parimg.errors import ParimgError
    from parimg.pairs.pair_job import open_pairs

    try:
        return open_pairs(f"{folder}/pairs").counts["matched"]
    except (ParimgError, OSError):
        return 0


def many_run(folder, n_features):
    import numpy as np

    import parimg

    with parimg.start(2) as ctl:
        client = psutil.Process()
        engines = [each for each in client.children(recursive=True) if "engine" in " ".join(each.cmdline())]
        memory = []
        ended = threading.Event()

        def watch():
            while not ended.wait(2):
                with contextlib.suppress(psutil.Error):
                    memory.append((client.memory_info().rss, max(each.memory_info().rss for each in engines)))

        before = _matched(folder)
        job = ctl.match_pairs(f"{folder}/images", job_dir=f"{folder}/pairs", n_features=n_features)
        job.features.wait()
        job.has_begun()
        threading.Thread(target=watch, daemon=True).start()
        begin, used = time.perf_counter(), cpu_of(engines)
        job.wait()
        seconds, used = time.perf_counter() - begin, cpu_of(engines) - used
        ended.set()
        counts = job.counts
        records = [record for record in job.blocks if record.ok]
        opening = sum(record.decode_seconds for record in records)
        working = sum(record.task_seconds for record in records)
        journal = os.path.getsize(f"{folder}/pairs/blocks/journal.sqlite")
        pairs = np.concatenate(list(job.tables()))[["first", "second"]]
        print(
            f"{counts['images']} images, {counts['matched']} pairs, {counts['matched'] - before} now: "
            f"{(counts['matched'] - before) / seconds / 2:.0f} a second an engine, "
            f"{(counts['matched'] - before) / used:.0f} a second of an engine's processor time; "
            f"{opening / (opening + working):.2%} of the time for opening features; journal "
            f"{journal / counts['matched']:.0f} bytes a pair; "
            f"every pair once: {len(np.unique(pairs)) == len(pairs)}; "
            f"each block in one record, {len({record.key for record in records}) == len(records)}"
        )
        part = max(1, len(memory) // 10)
        for who, values in zip(("client", "largest engine"), zip(*memory, strict=True), strict=True):
            early, late = (
                np.median(values[span]) / 2**20 for span in (slice(part, 2 * part + 1), slice(-part, None))
            )
            print(f"memory of the {who}: {early:.0f} MiB after a tenth, {late:.0f} MiB at the end")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["temple", "overlap", "many", "many-run"])
    parser.add_argument("folder", nargs="?")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--verify-threshold", type=float, default=2.0, help="pixels; of temple and overlap")
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--features", type=int, default=2000)
    parser.add_argument("--kill", action="store_true", help="kill the client at half, and go on")
    given = parser.parse_args()
    if given.what != "many-run":
        print_setting("numpy", "numba", "opencv-python-headless", "pycolmap")
    if given.what == "temple":
        temple(given.rounds, given.verify_threshold)
    elif given.what == "overlap":
        overlap(given.verify_threshold)
    elif given.what == "many":
        many(given.images, given.features, given.kill)
    else:
        many_run(given.folder, given.features)
