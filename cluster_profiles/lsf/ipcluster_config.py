"""Engines as an array job of LSF, the controller on this machine"""

import os

from parimg.engine.setup import thread_environment

c = get_config()

# What to change, here or by `parimg profiles install lsf --set queue=main --set time=4:00:00`:
queue = ""  # empty: the site's default
time = "1:00:00"  # wall time of the engines
options = []  # more lines of options, such as ["#BSUB -M 4GB"]
setup = []  # lines of shell before an engine starts, such as ["module load python"]

c.Cluster.controller_launcher_class = "local"
c.Cluster.engine_launcher_class = "lsf"
c.Cluster.delay = 0.0
c.Cluster.engine_timeout = 3600

lines = ["#BSUB -J parimg[1-{n}]", "#BSUB -env all", "#BSUB -n 1", "#BSUB -o {profile_dir}/log/lsf-%J-%I.log"]
lines += [f"#BSUB -W {time.rpartition(':')[0]}"]  # LSF takes hours and minutes
lines += [f"#BSUB -q {queue}"] if queue else []
c.LSFEngineSetLauncher.job_id_regexp = r"Job <(\d+)>"
c.LSFEngineSetLauncher.job_id_regexp_group = 1

launcher = c.LSFEngineSetLauncher
# Values in braces are ipyparallel's; braces of your own are written twice.
launcher.batch_template = "\n".join(["#!/bin/sh", *lines, *options, *setup, "exec {program_and_args}", ""])
# ipyparallel would write the script into the current folder.
launcher.batch_file_name = os.path.join(os.path.dirname(os.path.abspath(__file__)), "engines.lsf")
# Parallelism comes from engines; a second thread in each only makes them compete for the same cores.
launcher.environment = thread_environment()
# Hundreds register at once, and each waits for its turn; those whose controller is gone end after 30 s.
launcher.engine_args = ["--IPEngine.timeout=120", "--IPEngine.max_heartbeat_misses=20"]
