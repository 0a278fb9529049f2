"""TaskSpec: the union of the tasks' configurations, importable without torch (the search file is checked by it)."""

from typing import Annotated

from pydantic import Field

from trainables.landmarks.spec import LandmarksSpec
from trainables.matting.spec import MattingSpec
from trainables.segmentation.spec import SegmentationSpec

TaskSpec = Annotated[SegmentationSpec | MattingSpec | LandmarksSpec, Field(discriminator="kind")]
