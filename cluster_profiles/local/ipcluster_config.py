"""Engines on this machine, found by connect(profile="local")."""

from parimg.engine.setup import thread_environment

c = get_config()

# What to change, here or by `parimg profiles install local --set fork=true`:
fork = False  # engines are forked from one process that has all loaded: quicker, and a third of the memory

c.Cluster.controller_launcher_class = "local"
c.Cluster.engine_launcher_class = "parimg-fork" if fork else "local"
c.ForkedEnginesLauncher.environment = thread_environment()

# The connection information is handed to engines as soon as the controller has it; nothing needs to be waited for.
c.Cluster.delay = 0.0
c.LocalEngineSetLauncher.delay = 0.0

# Parallelism comes from engines; a second thread in each only makes them compete for the same cores.
c.LocalEngineSetLauncher.environment = thread_environment()
