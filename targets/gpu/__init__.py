"""Graphics processors: machine descriptions, schedule rules and their cost model, printers and device maths."""
