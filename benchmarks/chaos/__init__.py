"""The parts of the fault test (`benchmarks/chaos/__main__.py`): the stage, its faults, the cast, the writers, the oracle."""
