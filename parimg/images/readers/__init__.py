"""Files that hold more than one picture, or are read by a library of their own, behind one registry.

`open_part` gives an image, or a part of one, with its axes named; `open_file` what a file holds. `registry` knows
which format is whose, `opened` keeps files open, `address` how a part is written, `part` what a format's module
gives; there is one for each library, which is imported when the first file of its kind is opened. Imports errors,
and of `parimg.images` what reads bytes; called by `decode`, by sources that list files, and by readers of tiles.
"""

from parimg.images.readers.address import Address, split_address
from parimg.images.readers.opened import open_file, open_part
from parimg.images.readers.part import Described, OpenedFile, Part, StoredImage
from parimg.images.readers.registry import Reader, reader_of

__all__ = [
    "Address",
    "Described",
    "OpenedFile",
    "Part",
    "Reader",
    "StoredImage",
    "open_file",
    "open_part",
    "reader_of",
    "split_address",
]
