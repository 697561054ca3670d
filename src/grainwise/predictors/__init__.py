"""What would happen if: latency, cold start, queueing and cost, each with its error."""
