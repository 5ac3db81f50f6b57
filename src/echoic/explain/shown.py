"""A classifier's explanations drawn: in a terminal, on a page, in a picture."""

from echoic.explain.page import write_page
from echoic.explain.picture import write_png
from echoic.explain.terminal import render

__all__ = ["render", "write_page", "write_png"]
