"""Microcontrollers: their cores, what a bundle for them holds, and boards under emulation."""
