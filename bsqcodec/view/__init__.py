"""`bsqcodec view`: where the bits of a file went, as a web page that plays it, or as a picture of one frame."""

from bsqcodec.view.collect import Options
from bsqcodec.view.heat import write_heat_map
from bsqcodec.view.page import Viewed, write_page
from bsqcodec.view.serve import PageServer

__all__ = ["Options", "PageServer", "Viewed", "write_heat_map", "write_page"]
