"""Where images come from: paths, folders, globs, lists, tables, URLs, arrays.

`as_source` turns what a user passes as `images` into a `Source`, and tells at once what was typed wrong. A
source names its images one after the other and never reads one: engines do that. Called by the controller;
the dispatcher iterates. Loads numpy, fsspec and pyarrow only where they are needed, for `import parimg` is to
be quick.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from parimg.errors import SourceError
from parimg.sources.collections import Items, Stream
from parimg.sources.file_parts import OnePart, check_part
from parimg.sources.names import Place
from parimg.sources.paths import source_of_path
from parimg.sources.source import QUOTED, Image, Several, Source
from parimg.sources.tables import Table

if TYPE_CHECKING:
    from typing import TypeAlias

    import numpy.typing as npt

    Element: TypeAlias = "str | os.PathLike[str] | tuple[str | int, npt.NDArray[Any]]"
    Images: TypeAlias = "Source | Element | Iterable[Element] | Mapping[str, npt.NDArray[Any]]"

__all__ = ["Image", "Source", "as_source", "join_specs", "source_from_spec"]


def as_source(images: Images, *, column: str | None = None, absolute_keys: bool = False) -> Source:
    """Make a source of what a user passes as `images`.

    Parameters
    ----------
    images : str, path, iterable or mapping
        One of

        - the path of an image;
        - a folder: all images and ``.npy`` files below it, by extension, hidden ones left out, folder by folder in
          sorted order. Links to folders are followed, but not in circles. What cannot be opened is left out, with
          a warning in the log;
        - a part of a file, behind ``#``: ``run.h5#/entry/images?i=17``, ``plate.zarr#B/03/0?t=0``,
          ``movie.mp4#frame=300``; a file that has the whole name is that file. A file or store of a format that
          holds many images, named alone or met in a folder, glob, list or table, stands for all its parts, see
          `parimg.sources.parts`. TIFF is split if it is called ``.ome.tif``;
        - a glob with ``*``, ``?``, ``[...]``, and ``**`` for any number of folders, in the same order. Where
          it ends in ``*`` and so leaves the extension open, only images are taken. What exists is never taken
          for a glob;
        - a text file (``.txt``, ``.lst``) with a path or URL a line, blank lines and ``#`` comments left out;
        - a table (``.csv``, ``.tsv``, ``.parquet``) with a column of paths or URLs. Relative paths in a text
          file or table are relative to its folder. A Parquet column of encoded images, bytes or ``{bytes, path}``
          as data sets are published, is read by the engines; keys are the paths, or, where these are missing or
          not unique, the table's with the number of the row;
        - a URL that fsspec knows. One that ends in ``/`` or has a wildcard is listed here, as a folder or
          glob is; the images themselves are read by the engines;
        - a list, tuple, set, generator or other iterable of these, or of ``(name, array)`` tuples;
        - a mapping of names to arrays.
    column : str, optional
        Column of a table. Not needed if exactly one of path, file, filename, image, uri, url is there.
    absolute_keys : bool, default False
        Name local images by their absolute paths, for what outlives the current directory. Of a `Source` the
        keys stay what they are.

    Returns
    -------
    Source
        Keys are POSIX paths relative to the current directory where the image is below it, otherwise
        absolute; URLs and names are kept as they are. A name that is not UTF-8 is escaped, see
        `parimg.sources.names.escape_name`.

    Raises
    ------
    EmptySourceError
        A list, folder, glob, text file or table without images.
    MissingColumnError
        A table without such a column.
    SourceError
        A path or a part that does not exist, a library or protocol that is not installed, arrays without names, an
        element that is none of the above. Of a generator only the first element is looked at here, the others in
        their turn.

    Examples
    --------
    >>> [image.key for image in as_source(["views/b.png", "./views/a.png", "file:///c.png"])]
    ['views/b.png', 'views/a.png', 'file:///c.png']
    >>> import numpy as np
    >>> as_source({"black": np.zeros((2, 3), np.uint8)}).count()
    1
    >>> as_source([])
    Traceback (most recent call last):
        ...
    parimg.errors.EmptySourceError: the list of images is empty
    """
    return _make_source(images, Place(os.getcwd(), absolute_keys=absolute_keys), column)


def source_from_spec(spec: Mapping[str, Any]) -> Source:
    """Make the source again that `Source.spec` described, with the same keys, whatever the current directory.

    Parameters
    ----------
    spec : mapping
        What `Source.spec` gave, also by way of JSON.

    Returns
    -------
    Source
        Folders, globs, tables and URLs are listed anew.

    Raises
    ------
    SourceError
        It was a generator or arrays, or what is described is not there any more.

    Examples
    --------
    >>> source = as_source(["views/a.png"])
    >>> list(source_from_spec(source.spec())) == list(source)
    True
    """
    if spec.get("shard"):
        from parimg.sources.shards import Shard, whole_of  # not at the top, as below

        return Shard(source_from_spec(whole_of(spec)), *spec["shard"])
    if spec.get("outside"):
        from parimg.sources.outside import outside_again  # not at the top: it builds on this

        return outside_again(spec)
    if spec["kind"] == "several":
        return Several([source_from_spec(each) for each in spec["sources"]])
    if spec["kind"] in _NOT_RESTARTABLE:
        raise SourceError(
            f"the images came from {_NOT_RESTARTABLE[spec['kind']]}, which only the process that made them "
            "can list; pass the same images again"
        )
    place = Place(spec["cwd"], absolute_keys=spec.get("absolute_keys", False))
    return _make_source(spec["images"], place, spec["column"])


def join_specs(earlier: Mapping[str, Any], added: Mapping[str, Any]) -> Mapping[str, Any]:
    """Describe the images of two sources, one after the other.

    Parameters
    ----------
    earlier, added : mapping
        What `Source.spec` or this function gave.

    Returns
    -------
    mapping
        For `source_from_spec`; `earlier` itself, if all of `added` is in it, or one of them cannot be listed by
        another process.

    Examples
    --------
    >>> first, second = as_source(["a.png"]).spec(), as_source(["b.png"]).spec()
    >>> [image.key for image in source_from_spec(join_specs(first, second))]
    ['a.png', 'b.png']
    """
    before, after = (
        list(spec["sources"]) if spec["kind"] == "several" and not spec.get("shard") else [spec]
        for spec in (earlier, added)
    )
    new = [spec for spec in after if spec not in before]
    if not new or any(spec["kind"] in _NOT_RESTARTABLE for spec in (*before, *new)):
        return earlier
    return {"kind": "several", "sources": [*before, *new]}


_NOT_RESTARTABLE = {"generator": "a generator or another lazy iterable", "arrays": "arrays in memory"}


def _make_source(images: object, place: Place, column: str | None) -> Source:
    from numpy import ndarray

    if isinstance(images, Source):
        return images
    if isinstance(images, ndarray) and images.dtype.kind not in "UO":
        raise SourceError(
            f"images is an array of shape {images.shape}, and arrays need names: pass (name, array) tuples, "
            "{name: array} or enumerate(arrays)"
        )
    if hasattr(images, "columns"):
        raise SourceError(f"images is a {type(images).__name__}: pass its column of paths instead")
    if hasattr(images, "tolist"):
        # Arrays of strings, and pandas' Series and Index.
        images = images.tolist()
    if isinstance(images, (str, os.PathLike)):
        source = source_of_path(images, place, column)
        if isinstance(source, OnePart):
            check_part(next(iter(source)).uri)
        if column is not None and not isinstance(source, Table):
            raise SourceError(f"column={column!r} was given, but {os.fspath(images)!r:.{QUOTED}} is no table")
        return source
    if isinstance(images, tuple) and len(images) == 2 and isinstance(images[1], ndarray):
        return Items([images], place, column)
    if isinstance(images, dict):
        return Items(list(images.items()), place, column)
    if isinstance(images, (set, frozenset)):
        # The order of a set of strings is another one in every process.
        return Items(sorted(images, key=str), place, column)
    if isinstance(images, (list, tuple)):
        return Items(tuple(images), place, column)
    if isinstance(images, Mapping):
        return Stream(images.items(), place, column)
    if isinstance(images, Iterable) and not isinstance(images, (bytes, bytearray)):
        return Stream(images, place, column)
    raise SourceError(
        "images must be a path, folder, glob, table, URL, or an iterable of these or of (name, array) tuples "
        f"(got {images!r:.80} that is a {type(images).__name__})"
    )
