"""What a host is asked about the client's disks before it is given images, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DiskQuestion:
    """Whether a host sees what the client sees, and not something else of the same name."""

    token: str
    """Random; at least one file that holds it proves that a folder is the same."""
    job: str
    """Path of a file in the job's directory that holds the token."""
    image: str
    """URI of an image that the client can read from a disk, empty for none."""
    image_size: int
    """Of its file, bytes."""
    output: str
    """Path of a file in the output folder that holds the token and is to be answered, empty for none."""

    @property
    def answer(self) -> str:
        """What the engine writes in the place of the token, to show that it can write there."""
        return self.token[::-1]


@dataclass(frozen=True, slots=True)
class SeenDisks:
    """What a host sees."""

    job: bool
    """The job's directory."""
    images: bool
    """The image, and so its folder."""
    output: bool
    """The output folder, to write there."""


ALL_SEEN = SeenDisks(job=True, images=True, output=True)
NONE_SEEN = SeenDisks(job=False, images=False, output=False)
