"""Where images come from: paths, folders, globs, tables, URLs, generators, arrays with names.

Imports errors, files and images, which know what files hold; called by the controller, which makes one of what the
user gave, and the dispatcher, which lists.
"""

from parimg.sources.file_parts import FilePart, parts

__all__ = ["FilePart", "parts"]
