"""A job: on disk, and as users see it.

Imports records, tasks, protocol and files; called by the dispatcher, which writes it, and by users, who read it.
"""
