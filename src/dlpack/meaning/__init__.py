"""What inputs and outputs mean: labels, preprocessing, tasks, detections, sets of shapes, and their metadata."""
