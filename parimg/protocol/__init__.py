"""What travels between client and engines: no sockets, no ipyparallel."""
