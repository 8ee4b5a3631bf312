"""Where images come from: paths, folders, globs, lists, tables, URLs, arrays.

`as_source` turns what a user passes as `images` into a `Source`, and tells at once what was typed wrong. A
source names its images one after the other and never reads one: engines do that. Called by the controller;
the dispatcher iterates. Loads numpy, fsspec and pyarrow only where they are needed, for `import parimg` is to
be quick.
"""

from __future__ import annotations

import os
import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from itertools import chain
from numbers import Integral
from typing import TYPE_CHECKING, Any, NamedTuple

from parimg.errors import EmptySourceError, SourceError
from parimg.sources import listing

if TYPE_CHECKING:
    from typing import TypeAlias

    import numpy.typing as npt

    Element: TypeAlias = "str | os.PathLike[str] | tuple[str | int, npt.NDArray[Any]]"
    Images: TypeAlias = "Source | Element | Iterable[Element] | Mapping[str, npt.NDArray[Any]]"

_READ_BY_OPENCV = (
    "apng avif bmp dib gif hdr j2k jfif jp2 jpe jpeg jpg pam pbm pfm pgm pic png pnm ppm pxm ras sr tif tiff webp"
)
IMAGE_EXTENSIONS = frozenset("." + name for name in _READ_BY_OPENCV.split())
"""Extensions of the files that are taken from a folder: the formats that OpenCV's wheels read."""

_TEXT_EXTENSIONS = frozenset((".txt", ".lst"))
_TABLE_EXTENSIONS = frozenset((".csv", ".tsv", ".parquet", ".pq"))

# What has one of these extensions and nothing special is an image without a look at the disk, which takes
# longer on a network drive than all the rest. A folder gives no `.npy`: there it is rarely an image.
_PLAIN_EXTENSIONS = IMAGE_EXTENSIONS | {".npy"}
_SPECIAL = re.compile(r"[*?\[]|://")


class Image(NamedTuple):
    """One unit of input: how it is called, and where it is read or what it is.

    Examples
    --------
    >>> Image("views/a.png", "/data/views/a.png").array is None
    True
    """

    key: str
    """Stable, and unique in its job: path below the current directory, absolute path, URL or given name."""
    uri: str
    """Absolute local path or URL; empty for an array."""
    array: npt.NDArray[Any] | None = None
    """The pixels, where they need not be read."""


class Source(ABC):
    """The images of a job, named one after the other.

    Iterating is lazy, and begins anew each time, except over a generator, which is used up by the first time.
    """

    restartable: bool = True
    """Whether another process can list the images again, from what `spec` says."""

    @abstractmethod
    def __iter__(self) -> Iterator[Image]:
        """Give the images in an order that is the same every time."""

    @abstractmethod
    def count(self) -> int | None:
        """Tell the number of images without reading one; None where only the end will tell."""

    @abstractmethod
    def spec(self) -> dict[str, Any]:
        """Describe the images in JSON's types, for `source_from_spec`."""

    def left_out(self) -> Counter[str]:
        """Files that the last listing met and did not take, as far as it came: their number by the reason."""
        return Counter()


def as_source(images: Images, *, column: str | None = None, absolute_keys: bool = False) -> Source:
    """Make a source of what a user passes as `images`.

    Parameters
    ----------
    images : str, path, iterable or mapping
        One of

        - the path of an image;
        - a folder: all images below it, by extension, hidden ones left out, folder by folder in sorted order.
          Links to folders are followed, but not in circles;
        - a glob with ``*``, ``?``, ``[...]``, and ``**`` for any number of folders, in the same order. Where
          it ends in ``*`` and so leaves the extension open, only images are taken. What exists is never taken
          for a glob;
        - a text file (``.txt``, ``.lst``) with a path or URL a line, blank lines and ``#`` comments left out;
        - a table (``.csv``, ``.tsv``, ``.parquet``) with a column of paths or URLs. Relative paths in a text
          file or table are relative to its folder;
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
        absolute; URLs and names are kept as they are.

    Raises
    ------
    EmptySourceError
        A list, folder, glob, text file or table without images.
    MissingColumnError
        A table without such a column.
    SourceError
        A path that does not exist, a protocol that is not installed, arrays without names, an element that is
        none of the above. Of a generator only the first element is looked at here, the others in their turn.

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
    return _make_source(images, _Place(os.getcwd(), absolute_keys=absolute_keys), column)


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
    if spec["kind"] == "several":
        return _Several([source_from_spec(each) for each in spec["sources"]])
    if spec["kind"] in _NOT_RESTARTABLE:
        raise SourceError(
            f"the images came from {_NOT_RESTARTABLE[spec['kind']]}, which only the process that made them "
            "can list; pass the same images again"
        )
    place = _Place(spec["cwd"], absolute_keys=spec.get("absolute_keys", False))
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
    before, after = (list(spec["sources"]) if spec["kind"] == "several" else [spec] for spec in (earlier, added))
    new = [spec for spec in after if spec not in before]
    if not new or any(spec["kind"] in _NOT_RESTARTABLE for spec in (*before, *new)):
        return earlier
    return {"kind": "several", "sources": [*before, *new]}


_NOT_RESTARTABLE = {"generator": "a generator or another lazy iterable", "arrays": "arrays in memory"}


# -- names ---------------------------------------------------------------------------------------------------


class _Place:
    """The directories that paths and keys are relative to."""

    def __init__(self, cwd: str, folder: str | None = None, *, absolute_keys: bool = False) -> None:
        self.cwd = cwd
        self.absolute_keys = absolute_keys
        self._folder = cwd if folder is None else folder
        self._above_keys = "" if absolute_keys else cwd.rstrip(os.sep) + os.sep

    def inside(self, folder: str) -> _Place:
        return _Place(self.cwd, folder, absolute_keys=self.absolute_keys)

    def spec(self) -> dict[str, Any]:
        return {"cwd": self.cwd, **({"absolute_keys": True} if self.absolute_keys else {})}

    def absolute(self, path: str) -> str:
        """Normalise the text of a path; the disk is not asked, so links stay what they are."""
        absolute = os.path.normpath(os.path.join(self._folder, path))
        # POSIX gives two leading slashes a meaning that no system uses.
        return absolute[1:] if absolute.startswith("//") else absolute

    def image(self, path: str) -> Image:
        absolute = self.absolute(path)
        key = absolute.removeprefix(self._above_keys)
        if os.sep != "/":
            key = key.replace(os.sep, "/")
        key = _storable(key)
        # Behind a link to a folder, `..` leads elsewhere than in the text.
        return Image(key, os.path.join(self._folder, path) if ".." in path else absolute)


def _storable(key: str) -> str:
    """Write out bytes that are no UTF-8: lone surrogates in Python, which no database and no JSON takes."""
    return key if key.isascii() else key.encode("utf-8", "backslashreplace").decode()


def _is_plain(path: str) -> bool:
    return listing.extension(path) in _PLAIN_EXTENSIONS and _SPECIAL.search(path) is None


# -- which source --------------------------------------------------------------------------------------------


def _make_source(images: object, place: _Place, column: str | None) -> Source:
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
        source = _source_of_path(images, place, column)
        if column is not None and not isinstance(source, _Table):
            raise SourceError(f"column={column!r} was given, but {os.fspath(images)!r} is no table")
        return source
    if isinstance(images, tuple) and len(images) == 2 and isinstance(images[1], ndarray):
        return _List([images], place, column)
    if isinstance(images, dict):
        return _List(list(images.items()), place, column)
    if isinstance(images, (set, frozenset)):
        # The order of a set of strings is another one in every process.
        return _List(sorted(images, key=str), place, column)
    if isinstance(images, (list, tuple)):
        return _List(tuple(images), place, column)
    if isinstance(images, Mapping):
        return _Stream(images.items(), place, column)
    if isinstance(images, Iterable) and not isinstance(images, (bytes, bytearray)):
        return _Stream(images, place, column)
    raise SourceError(
        "images must be a path, folder, glob, table, URL, or an iterable of these or of (name, array) tuples "
        f"(got {images!r:.80} that is a {type(images).__name__})"
    )


def _source_of_path(given: str | os.PathLike[str], place: _Place, column: str | None) -> Source:
    path: object = os.fspath(given)
    if not isinstance(path, str) or not path:
        raise SourceError(f"a path must be a str that is not empty (got {path!r})")
    path = str(path)  # NumPy's strings are a subclass
    if "://" in path:
        return _Url(path, place)
    absolute = place.absolute(path)
    if os.path.isdir(absolute):
        return _Tree("folder", path, place)
    if os.path.exists(absolute):
        extension = listing.extension(path)
        if extension in _TEXT_EXTENSIONS:
            return _TextFile("text", path, place)
        if extension in _TABLE_EXTENSIONS:
            return _Table("table", path, place, column)
        return _File("path", path, place)
    if listing.has_wildcard(path):
        return _Tree("glob", path, place)
    hint = "; '~' is not expanded here, use pathlib.Path(...).expanduser()" if path.startswith("~") else ""
    raise SourceError(f"{path!r} does not exist (looked for {absolute!r}){hint}")


# -- one path or URL names them all --------------------------------------------------------------------------


class _NamedSource(Source):
    def __init__(self, kind: str, path: str, place: _Place, column: str | None = None) -> None:
        self._kind = kind
        self._path = path
        self._place = place
        self._column = column

    def count(self) -> int:
        return sum(1 for _ in self)

    def spec(self) -> dict[str, Any]:
        return {"kind": self._kind, "images": self._path, "column": self._column, **self._place.spec()}

    def _require_one(self, problem: str) -> None:
        if next(iter(self), None) is None:
            raise EmptySourceError(f"{self._path!r} {problem} (looked in {self._place.cwd!r})")


class _File(_NamedSource):
    def __iter__(self) -> Iterator[Image]:
        yield self._place.image(self._path)


class _Tree(_NamedSource):
    """A folder or a glob."""

    def __init__(self, kind: str, path: str, place: _Place) -> None:
        super().__init__(kind, path, place)
        absolute = place.absolute(path)
        self._root, self._patterns = (absolute, ["**"]) if kind == "folder" else _split_glob(absolute)
        self._only_images = self._patterns[-1].endswith("*")
        self._left_out = Counter[str]()
        wanted = "file with an image extension" if self._only_images else "file"
        self._require_one(f"has no {wanted}" if kind == "folder" else f"matches no {wanted}")

    def __iter__(self) -> Iterator[Image]:
        self._left_out = left_out = Counter[str]()
        for path in listing.walk(self._root, self._patterns):
            if not self._only_images or listing.extension(path) in IMAGE_EXTENSIONS:
                yield self._place.image(path)
            else:
                left_out["no image extension"] += 1

    def left_out(self) -> Counter[str]:
        return self._left_out.copy()


def _split_glob(pattern: str) -> tuple[str, list[str]]:
    """Split an absolute glob into the folder that it begins in and a pattern for each level below."""
    parts = pattern.split(os.sep)
    root = parts.pop(0) + os.sep
    # What exists is no pattern: a folder above may well be called `set[2]`.
    while len(parts) > 1 and (not listing.has_wildcard(parts[0]) or os.path.isdir(os.path.join(root, parts[0]))):
        root = os.path.join(root, parts.pop(0))
    return root, parts


class _TextFile(_NamedSource):
    """A path or URL a line."""

    def __init__(self, kind: str, path: str, place: _Place, column: str | None = None) -> None:
        super().__init__(kind, path, place, column)
        self._file = place.absolute(path)
        self._place_inside = place.inside(os.path.dirname(self._file))
        self._require_one("names no image")

    def __iter__(self) -> Iterator[Image]:
        image = self._place_inside.image
        for name in self._names():
            yield Image(name, name) if "://" in name else image(name)

    def _names(self) -> Iterator[str]:
        return listing.text_lines(self._file)


class _Table(_TextFile):
    """A path or URL a row."""

    def _names(self) -> Iterator[str]:
        return listing.column_values(self._file, listing.path_column(self._file, self._column))

    def count(self) -> int:
        return listing.count_rows(self._file)


class _Url(_NamedSource):
    def __init__(self, url: str, place: _Place) -> None:
        super().__init__("url", url, place)
        listing.check_protocol(url)
        if listing.extension(url) in _TEXT_EXTENSIONS | _TABLE_EXTENSIONS:
            raise SourceError(f"{url!r} would be a list of images, which is read from a local file: download it")
        if not url.endswith("/") and not listing.has_wildcard(url):
            self._urls = [url]
            return
        self._urls = listing.list_url(url)
        if url.endswith(("/", "*")):
            self._urls = [found for found in self._urls if listing.extension(found) in IMAGE_EXTENSIONS]
        if not self._urls:
            raise EmptySourceError(f"{url!r} has no image")

    def __iter__(self) -> Iterator[Image]:
        return (Image(url, url) for url in self._urls)


class _Several(Source):
    """One source after the other; none is a generator or holds arrays."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self._sources = sources

    def __iter__(self) -> Iterator[Image]:
        return chain.from_iterable(self._sources)

    def count(self) -> int | None:
        counts = [source.count() for source in self._sources]
        return None if None in counts else sum(count or 0 for count in counts)

    def spec(self) -> dict[str, Any]:
        return {"kind": "several", "sources": [source.spec() for source in self._sources]}


# -- many named one by one -----------------------------------------------------------------------------------


def _expand(items: Iterable[object], place: _Place, column: str | None) -> Iterator[Image]:
    from numpy import ndarray

    # Together these two branches are all elements of nearly all lists, and of all large ones.
    for index, item in enumerate(items):
        if type(item) is str and _is_plain(item):
            yield place.image(item)
        elif type(item) is tuple and len(item) == 2 and type(item[0]) is str and isinstance(item[1], ndarray):
            yield Image(_storable(item[0]), "", item[1])
        elif isinstance(found := _element(item, index, place, column), Image):
            yield found
        else:
            yield from found


def _element(item: object, index: int, place: _Place, column: str | None) -> Image | Source:
    from numpy import ndarray

    if isinstance(item, tuple) and len(item) == 2 and isinstance(item[1], ndarray):
        name, array = item
        if isinstance(name, bool) or not isinstance(name, (str, Integral)):
            raise SourceError(f"element {index} of images: the name of an array must be a str (got {name!r})")
        return Image(_storable(str(name)), "", array)
    if isinstance(item, (str, os.PathLike)):
        path = os.fspath(item)
        if isinstance(path, str) and _is_plain(path):
            return place.image(str(path))
        try:
            source = _source_of_path(item, place, column)
        except SourceError as error:
            raise type(error)(f"element {index} of images: {error}") from None
        return next(iter(source)) if isinstance(source, _File) else source
    if isinstance(item, ndarray):
        raise SourceError(
            f"element {index} of images is an array without a name: pass (name, array) tuples or enumerate(arrays)"
        )
    raise SourceError(
        f"element {index} of images must be a path, folder, glob, table, URL or a (name, array) tuple "
        f"(got {item!r:.80} that is a {type(item).__name__})"
    )


class _List(Source):
    """What is in memory already: every element is checked at once."""

    def __init__(self, items: Sequence[object], place: _Place, column: str | None) -> None:
        if not items:
            raise EmptySourceError("the list of images is empty")
        self._items = items
        self._place = place
        self._column = column
        self._is_one_each = True
        for index, item in enumerate(items):
            if type(item) is str and _is_plain(item):
                continue
            found = _element(item, index, place, column)
            if isinstance(found, Image):
                self.restartable = self.restartable and found.array is None
            else:
                self._is_one_each = self._is_one_each and isinstance(found, _Url) and found.count() == 1

    def __iter__(self) -> Iterator[Image]:
        return _expand(self._items, self._place, self._column)

    def count(self) -> int:
        return len(self._items) if self._is_one_each else sum(1 for _ in self)

    def spec(self) -> dict[str, Any]:
        if not self.restartable:
            return {"kind": "arrays"}
        paths = [str(os.fspath(item)) for item in self._items if isinstance(item, (str, os.PathLike))]
        return {"kind": "list", "images": paths, "column": self._column, **self._place.spec()}


class _Stream(Source):
    """A generator, or an iterable that may make its elements as it goes: only the first one is looked at."""

    restartable = False

    def __init__(self, items: Iterable[object], place: _Place, column: str | None) -> None:
        self._items = items
        self._place = place
        self._column = column
        self._is_used_up = False
        elements = iter(items)
        try:
            first = next(elements)
        except StopIteration:
            raise EmptySourceError(f"images is a {type(items).__name__} that gives nothing") from None
        self._gives_arrays = isinstance(_element(first, 0, place, column), Image) and isinstance(first, tuple)
        # An iterator has given its first element away; others begin anew.
        self._rest = chain([first], elements) if elements is items else None

    def __iter__(self) -> Iterator[Image]:
        if self._rest is None:
            return _expand(self._items, self._place, self._column)
        if self._is_used_up:
            raise SourceError("images was a generator, which can be run through only once; make a new one")
        self._is_used_up = True
        return _expand(self._rest, self._place, self._column)

    def count(self) -> int | None:
        return len(self._items) if self._gives_arrays and isinstance(self._items, Sized) else None

    def spec(self) -> dict[str, Any]:
        return {"kind": "arrays" if self._gives_arrays else "generator"}
