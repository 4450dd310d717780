"""The benchmarks behind `make bench`, `make load` and `make chaos`. Each result has a reference from the same run."""
