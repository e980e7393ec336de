"""A model beside the loaded one: made by the host's loader, at work by turns, given back with its memory."""
