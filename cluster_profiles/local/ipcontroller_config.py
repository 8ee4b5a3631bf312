"""Controller of engines on one machine: loopback only, no task database, quick registration."""

c = get_config()

# Nothing outside this machine can connect.
c.IPController.ip = "127.0.0.1"

# The Hub would otherwise keep a copy of every request and result in memory.
c.IPController.db_class = "NoDB"

# The Hub registers an engine at its next heartbeat; an engine counts as dead after 30 s without one.
c.HeartMonitor.period = 200
c.HeartMonitor.max_heartmonitor_misses = 150
