"""Face parsing: DeepLabv3+ on a DRN backbone, scored by mean intersection over union."""
