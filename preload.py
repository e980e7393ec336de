"""The extension adds no command line flags."""

from argparse import ArgumentParser


def preload(parser: ArgumentParser) -> None:
    """Called by the WebUI with its argument parser."""
