"""Engines as an array job of PBS, the controller on this machine"""

import os

from parimg.engine.setup import thread_environment

c = get_config()

# What to change, here or by `parimg profiles install pbs --set queue=main --set time=4:00:00`:
queue = ""  # empty: the site's default
time = "1:00:00"  # wall time of the engines
options = []  # more lines of options, such as ["#PBS -l mem=4gb"]
setup = []  # lines of shell before an engine starts, such as ["module load python"]

c.Cluster.controller_launcher_class = "local"
c.Cluster.engine_launcher_class = "pbs"
c.Cluster.delay = 0.0
c.Cluster.engine_timeout = 3600

lines = ["#PBS -V", "#PBS -N parimg", "#PBS -J 1-{n}", "#PBS -j oe", "#PBS -o {profile_dir}/log/"]
lines += [f"#PBS -l select=1:ncpus=1,walltime={time}"]
lines += [f"#PBS -q {queue}"] if queue else []
c.PBSEngineSetLauncher.job_id_regexp = r"(?m)^\d+\[\]\S*|^\d+\S*"

launcher = c.PBSEngineSetLauncher
# Values in braces are ipyparallel's; braces of your own are written twice.
launcher.batch_template = "\n".join(["#!/bin/sh", *lines, *options, *setup, "exec {program_and_args}", ""])
# ipyparallel would write the script into the current folder.
launcher.batch_file_name = os.path.join(os.path.dirname(os.path.abspath(__file__)), "engines.pbs")
# Parallelism comes from engines; a second thread in each only makes them compete for the same cores.
launcher.environment = thread_environment()
# Hundreds register at once, and each waits for its turn; those whose controller is gone end after 30 s.
launcher.engine_args = ["--IPEngine.timeout=120", "--IPEngine.max_heartbeat_misses=20"]
