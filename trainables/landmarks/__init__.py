"""Facial landmarks: a stacked hourglass that gives one heatmap a point, scored by the normalised mean error."""
