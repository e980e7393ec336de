"""Through a real WebUI: whole requests, with what the host does around them."""
