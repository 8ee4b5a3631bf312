"""Engines as an array job of Grid Engine, the controller on this machine"""

import os

from parimg.engine.setup import thread_environment

c = get_config()

# What to change, here or by `parimg profiles install sge --set queue=main --set time=4:00:00`:
queue = ""  # empty: the site's default
time = "1:00:00"  # wall time of the engines
options = []  # more lines of options, such as ["#$ -l h_vmem=4G"]
setup = []  # lines of shell before an engine starts, such as ["module load python"]

c.Cluster.controller_launcher_class = "local"
c.Cluster.engine_launcher_class = "sge"
c.Cluster.delay = 0.0
c.Cluster.engine_timeout = 3600

lines = ["#$ -V", "#$ -S /bin/sh", "#$ -N parimg", "#$ -t 1-{n}", "#$ -j y", "#$ -o {profile_dir}/log/"]
lines += [f"#$ -l h_rt={time}"]
lines += [f"#$ -q {queue}"] if queue else []
c.SGEEngineSetLauncher.job_id_regexp = r"[Jj]ob(?:-array)? (\d+)"
c.SGEEngineSetLauncher.job_id_regexp_group = 1

launcher = c.SGEEngineSetLauncher
# Values in braces are ipyparallel's; braces of your own are written twice.
launcher.batch_template = "\n".join(["#!/bin/sh", *lines, *options, *setup, "exec {program_and_args}", ""])
# ipyparallel would write the script into the current folder.
launcher.batch_file_name = os.path.join(os.path.dirname(os.path.abspath(__file__)), "engines.sge")
# Parallelism comes from engines; a second thread in each only makes them compete for the same cores.
launcher.environment = thread_environment()
# Hundreds register at once, and each waits for its turn; those whose controller is gone end after 30 s.
launcher.engine_args = ["--IPEngine.timeout=120", "--IPEngine.max_heartbeat_misses=20"]
