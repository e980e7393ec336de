"""The WebUI's side: the only place that imports the host's modules."""
