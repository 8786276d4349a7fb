"""Where plans run: in this process or in a worker process per device."""
