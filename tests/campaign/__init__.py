"""A campaign against a real WebUI: wrong and odd requests, injected faults, mixed generations, in any number.

The quick part runs with the host tests (``tests/host/campaign``); ``python -m tests.campaign`` runs as much as wanted.
"""
