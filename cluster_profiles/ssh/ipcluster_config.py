"""Engines on hosts that are reached by SSH without a password"""

import sys

from parimg.engine.setup import thread_environment

c = get_config()

# What to change, here or by `parimg profiles install ssh --set hosts=a:4,b:8`:
hosts = {}  # engines of each host, such as {"node1": 4, "me@node2": 8}
python = sys.executable  # on the hosts: a Python with the same minor version and the same parimg
ssh_options = ["-o", "BatchMode=yes", "-o", "ConnectTimeout=10", "-o", "ServerAliveInterval=15"]
fork = False  # engines of a host are forked from one process that has all loaded: a third of the memory

c.Cluster.controller_launcher_class = "local"
c.Cluster.engine_launcher_class = "parimg-ssh"
c.Cluster.delay = 0.0
c.Cluster.engine_timeout = 300

launcher = c.SSHEnginesLauncher
launcher.hosts = hosts
launcher.fork = fork
launcher.remote_python = python
launcher.ssh_command = ["ssh", *ssh_options]
# Parallelism comes from engines; a second thread in each only makes them compete for the same cores.
launcher.environment = thread_environment()
# Hundreds register at once, and each waits for its turn; those whose controller is gone end after 30 s.
launcher.engine_args = ["--IPEngine.timeout=120", "--IPEngine.max_heartbeat_misses=20"]
