"""Honest measurement: labelled rows, metrics with their intervals, calibration, reports."""
