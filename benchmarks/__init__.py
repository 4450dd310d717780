"""What `make bench`, `make load` and `make chaos` run. Each figure stands beside its reference from the same run."""
