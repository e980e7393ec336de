"""A real WebUI under test: its checkpoints, its server, a client, a browser."""
