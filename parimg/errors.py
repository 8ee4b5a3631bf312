"""Every exception that parimg raises, with one common base.

Imports nothing of parimg; every other module may import it. A message names the thing, what was wanted and
what came, and says what to do next.
"""

_LONGEST = 4_000  # characters of a message, whatever it quotes


class ParimgError(Exception):
    """Base of every exception of parimg; of a message that quotes very much, the middle is left out."""

    def __str__(self) -> str:
        text = super().__str__()
        return text if len(text) <= _LONGEST else f"{text[: _LONGEST // 2]} ... {text[-_LONGEST // 2 :]}"


# -- one image ------------------------------------------------------------------------------------------------


class ImageError(ParimgError):
    """An image could not be read; it becomes a failed record, the job goes on."""


class ImageMissingError(ImageError):
    """There is no such file or object."""


class ImageEmptyError(ImageError):
    """The file has no bytes."""


class ImageTruncatedError(ImageError):
    """The file ends before its image does, or its bytes are damaged."""


class ImageFormatError(ImageError):
    """The bytes are of no image format that can be read."""


class ImageTooLargeError(ImageError):
    """The image has more pixels than the limit allows."""


class ImagePartError(ImageError):
    """The file has no such part: no such series, data set, channel or frame."""


# -- what the user asked for ----------------------------------------------------------------------------------


class SourceError(ParimgError, ValueError):
    """The images of a job cannot be listed as asked."""


class EmptySourceError(SourceError):
    """A list, folder or glob holds no image."""


class MissingColumnError(SourceError):
    """A table has no such column of paths."""


class ReaderMissingError(SourceError):
    """Files of a format are to be read, and its library is not installed."""


class TaskError(ParimgError):
    """A task cannot run at all: its parameters are wrong, or no engine can prepare it."""


class ResultError(TaskError):
    """A task returned something that cannot be a row of a table."""


# -- the cluster ----------------------------------------------------------------------------------------------


class ClusterError(ParimgError):
    """A cluster could not be started or reached."""


class ProfileNotFoundError(ClusterError):
    """There is no such IPython profile."""


class EngineVersionError(ClusterError):
    """An engine runs another Python minor version or another parimg."""


class ControllerLost(ClusterError):
    """The controller of the cluster died or cannot be reached; jobs can be resumed on another."""


class EngineGone(ClusterError):
    """An engine left or died before it answered; its images run again, and no user sees this."""


class EngineRefused(ClusterError):
    """An engine answered a message with an error; `name` and `message` are its type and message."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(f"{name}: {message}")
        self.name = name
        self.message = message


class EngineDied(ClusterError):
    """An image was on an engine when it died, more often than retries allow."""


# -- the job --------------------------------------------------------------------------------------------------


class JobError(ParimgError):
    """A job cannot be opened, written or resumed."""


class JobLockedError(JobError):
    """Another process is writing this job."""


class TooManyFailures(JobError):
    """More images failed than ``max_failures`` allows, or a host misses all of its first ones."""
