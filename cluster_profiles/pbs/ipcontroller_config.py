"""Controller for engines on other hosts: encrypted, told by its address, patient with hundreds of engines."""

from parimg.cluster.address import own_address

c = get_config()

# What to change: the address of this machine that other hosts reach; empty: that of the default route.
address = ""

# Whoever can reach this address could otherwise read images and results, and forge results.
c.IPController.enable_curve = True
c.IPController.ip = "*"
c.IPController.location = address or own_address()

# The Hub would otherwise keep a copy of every request and result in memory.
c.IPController.db_class = "NoDB"

# The Hub registers an engine at its next heartbeat; an engine counts as dead after 30 s without one.
c.HeartMonitor.period = 1000
c.HeartMonitor.max_heartmonitor_misses = 30
