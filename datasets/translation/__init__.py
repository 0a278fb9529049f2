"""How does a synthetic picture come to look like a real one? Translation of images before training.

Specs are values that name a method and its parameters; `Translation` applies one to the synthetic samples of a loader.
Importing this brings no torch and no albumentations: the first `Translation` does.
"""

from datasets.translation.spec import AdainImage, Fda, Histogram, PixelDistribution, TranslationSpec
from datasets.translation.translation import Translation, translated_column

__all__ = [
    "AdainImage",
    "Fda",
    "Histogram",
    "PixelDistribution",
    "Translation",
    "TranslationSpec",
    "translated_column",
]
