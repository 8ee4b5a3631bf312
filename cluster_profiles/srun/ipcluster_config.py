"""Engines on all nodes of the Slurm allocation that `ipcluster start` runs in"""

from parimg.engine.setup import thread_environment

c = get_config()

# What to change, here or by `parimg profiles install srun --set options=...`:
options = []  # more of srun's, such as ["--cpu-bind=cores"]

c.Cluster.controller_launcher_class = "local"
c.Cluster.engine_launcher_class = "srun"
c.Cluster.delay = 0.0
c.Cluster.engine_timeout = 300

launcher = c.SrunEnginesLauncher
launcher.srun_args = options
# Parallelism comes from engines; a second thread in each only makes them compete for the same cores.
launcher.environment = thread_environment()
# Hundreds register at once, and each waits for its turn; those whose controller is gone end after 30 s.
launcher.engine_args = ["--IPEngine.timeout=120", "--IPEngine.max_heartbeat_misses=20"]
