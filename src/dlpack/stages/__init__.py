"""What each stage of a build does; their order is in pipeline.py."""
