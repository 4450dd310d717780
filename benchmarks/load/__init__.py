"""The load test (`python -m benchmarks.load`): the servers compared, the clients, and the measurements."""
