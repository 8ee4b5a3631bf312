"""How soon a user can begin: importing parimg, and starting a cluster of two engines.

python benchmarks/start.py
"""

import statistics
import subprocess
import sys
import time

import ipyparallel as ipp
from paired import print_setting, run_in_turn

import parimg


def plain_start():
    cluster = ipp.Cluster(n=2, log_level=40)
    client = cluster.start_and_connect_sync()
    assert len(client) == 2
    seconds = time.perf_counter()
    client.close()
    cluster.stop_cluster_sync()
    return seconds


def our_start():
    controller = parimg.start(n=2)
    assert len(controller) == 2
    seconds = time.perf_counter()
    controller.close()
    return seconds


def time_to_ready(start):
    begin = time.perf_counter()
    return start() - begin


def run_python(code):
    subprocess.run([sys.executable, "-c", code], check=True)


def main():
    print_setting("ipyparallel")
    seconds = {plain_start: [], our_start: []}
    for _ in range(5):
        for start, values in seconds.items():
            values.append(time_to_ready(start))
    plain, ours = (statistics.median(values) for values in seconds.values())
    print(
        f"two engines ready: ipyparallel.Cluster {plain:.2f} s, parimg.start {ours:.2f} s, "
        f"{plain / ours:.2f} times sooner"
    )

    imports = run_in_turn(lambda: run_python("import parimg"), lambda: run_python("import ipyparallel"), 15)
    print(f"new process with `import parimg` / with `import ipyparallel`: {1 / imports.ratio:.2f}")
    used = run_in_turn(
        lambda: run_python("import parimg; parimg.start"), lambda: run_python("import ipyparallel"), 15
    )
    print(f"the same with `parimg.start` looked up: {1 / used.ratio:.2f}")
    help_text = run_in_turn(
        lambda: subprocess.run(
            [sys.executable, "-m", "parimg.cli", "--help"], check=True, stdout=subprocess.DEVNULL
        ),
        lambda: run_python("import ipyparallel"),
        15,
    )
    print(f"`parimg --help` / `import ipyparallel`: {1 / help_text.ratio:.2f} ({help_text.ours:.2f} s)")


if __name__ == "__main__":
    main()
