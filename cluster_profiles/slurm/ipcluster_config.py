"""Engines as jobs of Slurm, the controller on this machine"""

from parimg.engine.setup import thread_environment

c = get_config()

# What to change, here or by `parimg profiles install slurm --set partition=main --set time=4:00:00`:
partition = ""  # empty: the site's default
account = ""
qos = ""
time = "1:00:00"  # wall time of the engines
engines_per_job = 0  # 0: one job with all engines; k: an array of jobs of k engines, which start as they fit
fork = False  # engines of a node are forked from one process that has all loaded: a third of the memory
options = []  # more of sbatch's, such as ["--mem-per-cpu=4G", "--constraint=avx512"]
setup = []  # lines of shell before the engines start, such as ["module load python"]

c.Cluster.controller_launcher_class = "local"
c.Cluster.engine_launcher_class = "parimg-slurm"
c.Cluster.delay = 0.0
c.Cluster.engine_timeout = 3600

launcher = c.SlurmEnginesLauncher
launcher.partition = partition
launcher.account = account
launcher.qos = qos
launcher.timelimit = time
launcher.engines_per_job = engines_per_job
launcher.fork = fork
launcher.options = options
launcher.setup = setup
# Parallelism comes from engines; a second thread in each only makes them compete for the same cores.
launcher.environment = thread_environment()
# Hundreds register at once, and each waits for its turn; those whose controller is gone end after 30 s.
launcher.engine_args = ["--IPEngine.timeout=120", "--IPEngine.max_heartbeat_misses=20"]
