"""A Ray cluster of two machines with one core each, both of them on this one."""

from __future__ import annotations

import os
import signal
import socket
from types import TracebackType

MEMORY = 80 * 2**20  # bytes that Ray keeps for objects on each
QUICK = {"health_check_initial_delay_ms": 500, "health_check_period_ms": 500, "health_check_failure_threshold": 4}


class TwoMachines:
    """The cluster while inside; nothing of it is told to anybody.

    Attributes:
        address: for drivers on this machine, as RAY_ADDRESS takes it.
        client: for drivers elsewhere, `ray://...`.
        lost: whether one machine has died.
    """

    def __enter__(self) -> TwoMachines:
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        os.environ["RAY_CLIENT_SERVER_CHECK_CHANNEL_TIMEOUT_S"] = "120"  # for machines whose cores all have work
        self._before = signal.getsignal(signal.SIGTERM)
        from ray.cluster_utils import Cluster

        port = _free_port()
        first = {"num_cpus": 1, "object_store_memory": MEMORY, "include_dashboard": False, "_system_config": QUICK}
        self._cluster = Cluster(initialize_head=True, head_node_args={**first, "ray_client_server_port": port})
        self._second = self._cluster.add_node(num_cpus=1, object_store_memory=MEMORY)
        self.address: str = self._cluster.address
        self.lost = False
        self.client = f"ray://127.0.0.1:{port}"
        return self

    def lose_one(self) -> None:
        """The second machine dies, all at once."""
        if not self.lost:
            self.lost = True
            self._cluster.remove_node(self._second, allow_graceful=False)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._cluster.shutdown()
        signal.signal(signal.SIGTERM, self._before)


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
