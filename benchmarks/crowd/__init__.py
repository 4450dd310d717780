"""The parts of the load test (`benchmarks/load.py`): the contenders, the crowd of clients, what is measured."""
