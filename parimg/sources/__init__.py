"""Where images come from: paths, folders, globs, tables, URLs, generators, arrays with names.

Imports errors; called by the controller, which makes one of what the user gave, and the dispatcher, which lists.
"""
