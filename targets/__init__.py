"""Where a predictor runs: one folder per target with its machine description, schedules, toolchain and package."""
