"""The bundle: the folder that a build makes, how Python loads it, its report, its timing and its demo page."""
