"""Tools for development: embedded services, the supervisor behind `make run`, sample data. Installed with DEBUG=1."""
