"""Trains, evaluates and measures the arms of a study."""
