"""What the CPU targets share: machine descriptions, cost models and schedule rules."""
