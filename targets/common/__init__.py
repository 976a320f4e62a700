"""What the CPU targets share: the machine description and the schedule rules."""
