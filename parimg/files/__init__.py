"""Files that others read: whole, private, safely named.

Imports nothing of parimg but errors; every room that writes files for others calls it.
"""
