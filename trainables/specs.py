"""TaskSpec: the union of the tasks' configurations, importable without torch (the search file is checked by it)."""

from typing import Annotated

from pydantic import Field

from trainables.landmarks.spec import LandmarksSpec
from trainables.segmentation.spec import SegmentationSpec

TaskSpec = Annotated[SegmentationSpec | LandmarksSpec, Field(discriminator="kind")]
