"""Nothing to install: the extension uses what the WebUI brings."""
