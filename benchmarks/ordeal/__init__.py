"""The parts of the fault test (`benchmarks/chaos.py`): the stage, its faults, the cast, the writers, the oracle."""
