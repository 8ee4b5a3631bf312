"""Bytes to array and back: decoding, headers, TIFF files of several pages, encoding.

Imports errors and options, and nothing else of parimg; called by tasks on engines, and by whoever reads or writes
pictures.
"""
