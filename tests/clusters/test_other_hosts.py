"""A cluster on two hosts that share no disk with this machine, nor its network: namespaces with an SSH server."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
from other_hosts import OtherHost, other_host

import parimg
from parimg.cluster import profiles

N = 24
SHARPEN = np.array([[0, -1, 0], [-1, 5, -1], [0, -1, 0]])
SECRET = "what nobody on the way may read"


@dataclass(frozen=True)
class Apart:
    """A cluster, and the hosts of its engines."""

    controller: parimg.Controller
    hosts: list[OtherHost]
    disk: Path
    """Of this machine alone."""


@pytest.fixture(scope="module")
def apart(private_folders: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Apart]:
    disk, keys = tmp_path_factory.mktemp("disk"), tmp_path_factory.mktemp("keys")
    user = Path(os.environ["IPYTHONDIR"]).parent  # profiles, jobs, received objects
    with contextlib.ExitStack() as stack:
        hosts = [
            stack.enter_context(other_host(keys / name, name, hidden=[disk, user])) for name in ("far1", "far2")
        ]
        both = keys / "ssh_config"
        both.write_text("".join(host.ssh_config.read_text() for host in hosts))
        settings = {"hosts": "far1:1,far2:1", "ssh_options": f"-F,{both}", "address": hosts[0].here}
        profiles.install("ssh", as_name="apart", settings=settings)
        yield Apart(stack.enter_context(parimg.start(2, profile="apart", timeout=60)), hosts, disk)


@pytest.fixture(scope="module")
def images(apart: Apart) -> list[str]:
    folder = apart.disk / "images"
    folder.mkdir()
    random = np.random.default_rng(1)
    paths = [str(folder / f"{number:02d}.png") for number in range(N)]
    for path in paths:
        assert cv2.imwrite(path, random.integers(0, 256, (60, 80), np.uint8))
    return paths


@contextlib.contextmanager
def overheard(link: str) -> Iterator[bytearray]:
    """What goes over a network link while the body runs."""
    heard, ended = bytearray(), threading.Event()
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)) as wire:  # of every protocol
        wire.bind((link, 0))
        wire.settimeout(0.1)

        def listen() -> None:
            while not ended.is_set():
                with contextlib.suppress(TimeoutError):
                    heard.extend(wire.recv(65536))

        thread = threading.Thread(target=listen)
        thread.start()
        try:
            yield heard
        finally:
            ended.set()
            thread.join()


def test_images_are_sent_and_outputs_come_back(
    apart: Apart, images: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    output = apart.disk / "out"
    task = parimg.Convolve(SHARPEN, output=output)
    job = apart.controller.submit(task, images, job_dir=apart.disk / "job", chunk_size=2)
    assert job.wait(90)
    assert job.counts == {"ok": N, "failed": 0, "done": N, "total": N}
    assert {record.host for record in job} == {"far1", "far2"}
    for path in images:
        written = cv2.imread(str(output / Path(path).name))
        expected = cv2.filter2D(cv2.imread(path), -1, SHARPEN)
        np.testing.assert_array_equal(written[1:-1, 1:-1], expected[1:-1, 1:-1])
    for host in apart.hosts:
        assert os.listdir(host.path(apart.disk)) == []
    said = capfd.readouterr().err
    for host in apart.hosts:
        assert f"{host.name} does not see the image" in said


def test_nobody_on_the_way_can_read_what_is_sent(apart: Apart) -> None:
    assert apart.controller.security.curve
    text = np.frombuffer(SECRET.encode() * 1000, np.uint8)
    with contextlib.ExitStack() as stack:
        wires = [stack.enter_context(overheard(host.link)) for host in apart.hosts]
        job = apart.controller.map(
            lambda image: bytes(image[:500]).decode(),
            {f"{number} {SECRET}": text for number in range(8)},
            job_dir=apart.disk / "secret",
            chunk_size=1,
        )
        assert job.wait(60)
    assert {record["value"] for record in job} == {(SECRET * 1000)[:500]}
    assert sum(map(len, wires)) > 8 * len(text)
    assert all(SECRET.encode() not in wire for wire in wires)


def test_an_engine_that_dies_there_is_replaced_there(apart: Apart) -> None:
    import signal
    import time

    def where(_: np.ndarray) -> str:
        time.sleep(0.1)
        return socket.gethostname()

    engines = apart.controller.client[:]
    pids = dict(zip(engines.apply_sync(socket.gethostname), engines.apply_sync(os.getpid), strict=True))
    before = set(apart.controller.engines)
    job = apart.controller.map(
        where, {f"{n}": np.zeros(1) for n in range(150)}, chunk_size=1, job_dir=apart.disk / "where"
    )
    os.kill(pids["far2"], signal.SIGKILL)  # namespaces of processes are shared
    deadline = time.monotonic() + 60
    while len(apart.controller) < 2 or set(apart.controller.engines) == before:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert sorted(apart.controller.client[:].apply_sync(socket.gethostname)) == ["far1", "far2"]
    assert job.wait(60)
    assert job.counts["ok"] == 150
