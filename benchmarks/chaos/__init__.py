"""The chaos test (`python -m benchmarks.chaos`): the stack, its faults, the clients, the writers, the oracle."""
