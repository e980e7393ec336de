"""Watches a WebUI from inside, for the tests."""
