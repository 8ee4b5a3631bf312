"""The ipcluster under us: start, watch, repair.

Imports nothing here: this loads in every process of an embedded cluster.
"""
