"""Embedded synthetic faces: labelled images of heads with no assets, so that a demo and the tests need no download.

The pieces, in the order a face is made: `person` draws who stands there and what the domain's population and annotators
are like, `head` carves and intersects the surface, `features` and `hair` say which region a canonical position belongs
to, `shade` colours and lights it, `camera` makes the background and the photograph, `render` puts them together.
Only numpy and OpenCV are needed.
"""

from datasets.faces.person import DOMAINS
from datasets.faces.render import render, samples

__all__ = ["DOMAINS", "render", "samples"]
