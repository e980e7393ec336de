"""The embedded host: Ditail from the command line, without a WebUI."""
