"""Pure metrics, intervals and probes on arrays."""
