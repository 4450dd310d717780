"""The parts of the load test (`benchmarks/load/__main__.py`): the contenders, the crowd of clients, what is measured."""
