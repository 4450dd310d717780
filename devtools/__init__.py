"""Development tools: embedded services, the supervisor of `make run`, sample data; an installed app with DEBUG=1."""
