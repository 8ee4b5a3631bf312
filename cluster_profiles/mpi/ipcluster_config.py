"""Engines as ranks of mpiexec, which takes the package mpi4py; the death of one ends all"""

from parimg.engine.setup import thread_environment

c = get_config()

# What to change, here or by `parimg profiles install mpi --set mpiexec=/opt/mpich/bin/mpiexec`:
mpiexec = "mpiexec"  # of the MPI that mpi4py was built for
# Such as ["--hostfile", "/home/me/hosts"]; for Open MPI as root ["--allow-run-as-root", "--oversubscribe"]:
options = []

c.Cluster.controller_launcher_class = "local"
c.Cluster.engine_launcher_class = "mpi"
c.Cluster.delay = 0.0
c.Cluster.engine_timeout = 300

launcher = c.MPIEngineSetLauncher
launcher.mpi_cmd = [mpiexec]
launcher.mpi_args = options
# Parallelism comes from engines; a second thread in each only makes them compete for the same cores.
launcher.environment = thread_environment()
# Hundreds register at once, and each waits for its turn; those whose controller is gone end after 30 s.
launcher.engine_args = ["--IPEngine.timeout=120", "--IPEngine.max_heartbeat_misses=20"]
