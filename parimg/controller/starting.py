"""A cluster and its controller: started here, or connected to."""

from __future__ import annotations

from typing import Literal

from parimg.cluster.allocation import find_allocation, usable_cpus
from parimg.cluster.cluster import Cluster
from parimg.cluster.elastic import ElasticCluster
from parimg.cluster.embedded import EmbeddedCluster
from parimg.cluster.foreign import ForeignCluster
from parimg.cluster.started import StartedCluster
from parimg.console import print_line, report_if_slow
from parimg.controller.controller import Controller
from parimg.errors import ClusterError
from parimg.options import parse_size


def start(
    n: int | None = None,
    *,
    engines: tuple[int, int] | None = None,
    profile: str | None = None,
    nodes: Literal["all", "local"] = "all",
    memory_limit: int | str | None = None,
    curve: bool = False,
    timeout: float = 3600.0,
) -> Controller:
    """Start a cluster that ends with the controller, or with this process.

    On this machine it listens on the loopback interface only, takes no settings of an IPython profile (that of
    ``default`` holds a file by which ``ipcluster list`` shows it), and holds each engine to one thread. Inside an
    allocation of Slurm, PBS, LSF or Grid Engine it takes all of its hosts. What takes more than half a second is
    reported on standard error, unless the environment variable ``IPP_NONINTERACTIVE`` is set.

    Parameters
    ----------
    n : int, optional
        Number of engines, by default that of the processors this process may use, or was allotted.
    engines : (int, int), optional
        In place of `n`, with a profile: at least and at most so many. More are asked for while the work that is
        left is worth their wait, and those that had nothing to do for a minute are given back. Before the wall
        time of a batch job ends, the next is asked for, so the work outlives each of them.
    profile : str, optional
        IPython profile that says where engines run and by which settings, such as one of ``parimg profiles list``;
        then `n` or `engines` is needed.
    nodes : {"all", "local"}
        Whether engines run on all hosts of an allocation, or on this host only.
    memory_limit : int or str, optional
        Of each engine, for jobs that set none of their own; see `Controller.submit`.
    curve : bool
        Encrypt and authenticate all messages by CurveZMQ, against other users of this machine who can read its
        loopback traffic, which takes root. On the way to other hosts they always are.
    timeout : float
        Seconds to wait for the first engine of a profile, which may have to wait in a queue.

    Returns
    -------
    Controller

    Raises
    ------
    ClusterError
        If the engines do not come up, or are more than the allocation has processors.

    Examples
    --------
    >>> with parimg.start(engines=(2, 64), profile="slurm") as ctl:  # doctest: +SKIP
    ...     ctl.submit(task, "photos/").wait()

    >>> import numpy as np
    >>> import parimg
    >>> with parimg.start(n=1) as ctl:
    ...     job = ctl.map(np.mean, {"first": np.zeros(4), "second": np.ones(4)})
    ...     [record["value"] for record in job.get()]
    [0.0, 1.0]
    """
    if nodes not in {"all", "local"}:
        raise ClusterError(f"nodes must be 'all' or 'local' (got {nodes!r})")
    limit = None if memory_limit is None else parse_size(memory_limit)
    if engines is not None:
        least, most, place = _check_range(engines, n, profile)
        with report_if_slow(f"starting {least} to {most} engines ..."):
            return Controller(ElasticCluster(place, least, most, timeout), memory_limit=limit)
    allocation = find_allocation() if profile is None and nodes == "all" else None
    if n is None and profile is not None:
        raise ClusterError(
            f"start takes the number of engines, too: start(64, profile={profile!r}), or engines=(2, 64)"
        )
    if n is None:
        n = allocation.cpus if allocation is not None else usable_cpus()
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        raise ClusterError(f"n must be a number of engines of at least 1 (got {n!r})")
    if allocation is not None and n > allocation.cpus:
        raise ClusterError(
            f"{allocation.job} has {allocation.cpus} processors, so not {n} engines: ask the batch system "
            "for more, or for fewer engines here"
        )
    with report_if_slow(f"starting {n} engine{'s' if n > 1 else ''} ..."):
        cluster: Cluster
        if profile is not None:
            cluster = StartedCluster.of_profile(profile, n, timeout)
        elif allocation is not None and allocation.hosts > 1:
            cluster = StartedCluster.of_allocation(allocation, n, timeout)
        else:
            cluster = EmbeddedCluster(n, curve=curve)
        return Controller(cluster, memory_limit=limit)


def _check_range(engines: object, n: int | None, profile: str | None) -> tuple[int, int, str]:
    """The least and the most engines, and where they run."""
    if n is not None:
        raise ClusterError(f"start takes n engines or a range of them (got n={n!r} and engines={engines!r})")
    least, most = engines if isinstance(engines, tuple | list) and len(engines) == 2 else (0, 0)
    if not all(type(one) is int for one in (least, most)) or not 1 <= least <= most:
        raise ClusterError(f"engines must be the least and the most, as (2, 64) (got {engines!r})")
    if profile is None:
        raise ClusterError(
            f"engines={engines!r} wants a profile, which says where more come from; on this machine or in an "
            f"allocation start({most}) takes as many"
        )
    return least, most, profile


def connect(profile: str | None = None, cluster_id: str = "", *, timeout: float = 60.0) -> Controller:
    """Connect to a cluster that ``ipcluster start`` brought up.

    Parameters
    ----------
    profile : str, optional
        IPython profile of the cluster, by default ``"default"``, as for ``ipcluster start``.
    cluster_id : str, optional
        As given to ``ipcluster start --cluster-id``.
    timeout : float
        Seconds to wait for the first engine.

    Returns
    -------
    Controller

    Raises
    ------
    ProfileNotFoundError
        If there is no such profile.
    ClusterError
        If no cluster runs under it, or no engine registers in time.
    EngineVersionError
        If an engine has another Python minor version or another parimg; both are named.
    """
    with report_if_slow(f"connecting to the cluster of profile {profile or 'default'!r} ..."):
        cluster = ForeignCluster(profile, cluster_id, timeout)
        if cluster.security.warning:
            print_line(f"warning: {cluster.security.warning}")
        return Controller(cluster)
