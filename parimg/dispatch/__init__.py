"""Which image goes to which engine, and again if it must. Knows no ipyparallel.

Imports job, sources and protocol; the controller starts a dispatcher for each job.
"""
