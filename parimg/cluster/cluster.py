"""What a supervisor asks of the ipcluster under it; `EmbeddedCluster` and `ForeignCluster` answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from parimg.cluster.security import Security

if TYPE_CHECKING:
    import ipyparallel as ipp

    from parimg.cluster.engine_pool import ClientEngines
    from parimg.job.work_left import WorkLeft


class Cluster(Protocol):
    """The ipcluster under a controller, own or foreign.

    Owner of the ipyparallel client: it alone makes, replaces and closes one. `ClientEngines` and `Heartbeat`
    borrow it, and others ask for it here each time.
    """

    client: ipp.Client
    security: Security
    is_own: bool

    def replace_engine(self, pid: int | None) -> str:
        """Start another engine for a lost one, which may still run as process `pid`, and say what was done.

        Empty where that is done and told by `look_after`.
        """

    def look_after(self, engines: ClientEngines, work: WorkLeft | None) -> None:
        """Start what engines are missing, where that is ours to do; called about every second.

        Parameters
        ----------
        engines : ClientEngines
        work : WorkLeft or None
            What the running jobs have still to do, None if none runs.
        """

    def exit_reason(self, pid: int) -> str:
        """How the process of an engine ended, empty if that is not known."""

    def find_death(self) -> str:
        """Which part of the controller died, empty if all live or that is not known."""

    def restart(self) -> None:
        """Start anew, with another client, after the controller was lost.

        Raises
        ------
        ClusterError
            If that is not ours to do.
        """

    def stop(self) -> None:
        """Close the client, and end the cluster if it is ours."""
