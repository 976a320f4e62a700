"""The pictures of a report: pure functions from JSON data to HTML and SVG, readable without scripts."""
