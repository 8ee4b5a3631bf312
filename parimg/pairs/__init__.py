"""All pairs: features of every image, matches of every pair, and what a reconstruction takes from them.

Imports job, sources, tasks, images and kernels, no cluster: jobs are submitted to a controller that it is given.
Called by the controller, the command line and users.
"""
