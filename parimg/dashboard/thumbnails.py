"""Small pictures of failed images, read by a process of their own.

What made an engine crash or fill its memory would do so here, too; so no picture is read in the process that runs
jobs. The reader has the lowest priority, is started when the first picture is wanted, and again after it died.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import subprocess
import sys
import threading

_SIDE = 150  # px of the longer side
_SECONDS = 20.0  # for one picture, the start of the process included
_KEPT = 200
_MOST_PIXELS = 100_000_000
_MOST_DEATHS = 5  # of the reader, after which pictures are left out


class Thumbnails:
    """Pictures of a job's images, as ``data:`` addresses, each read once.

    Parameters
    ----------
    directory : str
        Of the job.
    """

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._pictures: dict[str, str] = {}
        self._process: subprocess.Popen[str] | None = None
        self._deaths = 0

    def known(self, key: str) -> str | None:
        """The picture of an image, empty if there is none, None if it was not asked for yet."""
        return self._pictures.get(key)

    def read(self, key: str) -> None:
        """Read the picture of an image; whatever happens, it is known then."""
        if len(self._pictures) >= _KEPT:
            self._pictures.pop(next(iter(self._pictures)))
        self._pictures[key] = "" if self._deaths >= _MOST_DEATHS else self._ask(key)

    def _ask(self, key: str) -> str:
        if self._process is None or self._process.poll() is not None:
            # Under -c: with -m the interpreter would warn of a module that the package has loaded.
            program = "import sys; from parimg.dashboard.thumbnails import serve; serve(sys.argv[1])"
            self._process = subprocess.Popen(  # noqa: S603 - this interpreter, and a path as its argument
                [sys.executable, "-c", program, self._directory],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                start_new_session=True,
            )  # fmt: skip
        process = self._process
        timer = threading.Timer(_SECONDS, process.kill)
        timer.start()
        try:
            assert process.stdin is not None  # noqa: S101 - it was asked for
            assert process.stdout is not None  # noqa: S101
            process.stdin.write(f"{json.dumps(key)}\n")
            process.stdin.flush()
            answer = process.stdout.readline()
        except OSError:
            answer = ""
        finally:
            timer.cancel()
        if not answer.endswith("\n"):
            self._deaths += 1
            self.close()
            return ""
        return answer.strip()

    def close(self) -> None:
        """End the reader."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    with contextlib.suppress(OSError):
                        stream.close()


def serve(directory: str) -> None:
    """Answer each key on standard input, a JSON string a line, by a picture's address on a line."""
    with contextlib.suppress(OSError, AttributeError):
        os.nice(19)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    answers = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)  # what libraries print is no answer
    import cv2

    from parimg.images.display import encoded
    from parimg.job.journal import Journal
    from parimg.job.plotting import image_of, load_task, options_of, picture_of

    cv2.setNumThreads(1)
    journal = Journal(directory)
    task, options = load_task(journal), options_of(journal)
    if options.max_pixels > _MOST_PIXELS:
        from dataclasses import replace

        options = replace(options, max_pixels=_MOST_PIXELS)
    for line in sys.stdin:
        picture = ""
        with contextlib.suppress(Exception):
            record = journal.find(json.loads(line))
            pixels = None if record is None else picture_of(image_of(task, record, options))
            if pixels is not None:
                data = base64.b64encode(encoded(pixels, _SIDE)).decode("ascii")
                picture = f"data:image/jpeg;base64,{data}"
        answers.write(f"{picture}\n")
        answers.flush()
