"""A Ray cluster of two machines with one core each, both of them on this one."""

from __future__ import annotations

import os
import signal
import socket
import time
from types import TracebackType

MEMORY = 80 * 2**20  # bytes that Ray keeps for objects on each
PATIENCE = 120  # seconds, for machines whose cores all have work
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
        os.environ["RAY_CLIENT_SERVER_CHECK_CHANNEL_TIMEOUT_S"] = str(
            PATIENCE
        )  # for machines whose cores all have work
        self._before = signal.getsignal(signal.SIGTERM)
        from ray.cluster_utils import Cluster

        port = _free_port()
        first = {"num_cpus": 1, "object_store_memory": MEMORY, "include_dashboard": False, "_system_config": QUICK}
        self._cluster = Cluster(initialize_head=True, head_node_args={**first, "ray_client_server_port": port})
        self._second = self._cluster.add_node(num_cpus=1, object_store_memory=MEMORY)
        self.address: str = self._cluster.address
        self.lost = False
        self.client = f"ray://127.0.0.1:{port}"
        _wait_for(port)
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


def _wait_for(port: int) -> None:
    """Ray returns before its door for drivers elsewhere is open; on a busy machine long before."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            time.sleep(0.2)
        else:
            return
    raise TimeoutError(f"nobody opened port {port} in {PATIENCE} s")


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
