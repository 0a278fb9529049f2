"""TaskSpec: the union of the tasks' configurations, importable without torch (the search file is checked by it)."""

from trainables.segmentation.spec import SegmentationSpec

TaskSpec = SegmentationSpec  # a second task makes this a union discriminated by `kind`
