"""Which images a command works on: what was typed, as a source; chosen by extension or at random."""

from __future__ import annotations

import os
import random
import re
from typing import TYPE_CHECKING

import typer

from parimg.errors import EmptySourceError

if TYPE_CHECKING:
    from parimg.sources.source import Source


def select(
    images: list[str],
    *,
    column: str | None = None,
    extensions: str | None = None,
    sample: int | None = None,
    seed: int = 0,
    absolute_keys: bool = False,
) -> Source:
    """Make a source of what was typed; what is wrong with it is told before a cluster is started.

    A choice is a source of its own, of globs or of paths, so that a job goes on with it when it is resumed.
    """
    from parimg.sources.as_source import as_source

    if extensions is not None:
        images = _with_extensions(images, extensions)
    # One path may be a table, several are a list.
    source = as_source(images[0] if len(images) == 1 else images, column=column, absolute_keys=absolute_keys)
    if sample is None:
        return source
    found = [image.uri for image in source]
    if len(found) > sample:
        chosen = random.Random(seed).sample(range(len(found)), sample)  # noqa: S311 # nothing is kept secret by it
        found = [found[place] for place in sorted(chosen)]
    return as_source(found, absolute_keys=absolute_keys)


def _with_extensions(images: list[str], extensions: str) -> list[str]:
    """A glob for each folder and extension."""
    from parimg.sources.as_source import as_source

    names = [name.strip().removeprefix("*").removeprefix(".").lower() for name in extensions.split(",")]
    if not all(re.fullmatch(r"\w+(\.\w+)*", name) for name in names):
        raise typer.BadParameter(f"--ext must be like tif or png,jpg (got {extensions!r})")
    globs = []
    for folder in images:
        if not os.path.isdir(folder):
            raise typer.BadParameter(f"--ext chooses among the files of a folder (got {folder!r}, which is none)")
        for name in dict.fromkeys(names):
            ending = "".join(f"[{letter}{letter.upper()}]" if letter.isalpha() else letter for letter in name)
            pattern = os.path.join(folder, "**", f"*.{ending}")
            try:
                as_source(pattern)
            except EmptySourceError:
                continue
            globs.append(pattern)
    if not globs:
        wanted = " or ".join(f".{name}" for name in names)
        raise EmptySourceError(f"no file below {', '.join(map(repr, images))} ends in {wanted}")
    return globs
