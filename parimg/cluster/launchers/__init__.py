"""Launchers: how engines come to be on other hosts, by Slurm, inside an allocation, or by SSH.

ipyparallel finds them under the entry points ``ipyparallel.engine_launchers`` of this package, so a profile names
one: ``c.Cluster.engine_launcher_class = "parimg-slurm"``. They use ipyparallel's public launcher classes.
"""
