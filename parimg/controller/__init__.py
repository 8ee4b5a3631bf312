"""The door: start a cluster or connect to one, and submit jobs to it.

`starting` makes a `Controller`; `controller` is what it does. The only room above cluster and
dispatcher, which it puts together; the command line, retrieval and the user call it.
"""
