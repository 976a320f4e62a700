"""From a memory plan and scheduled loop nests to the text of one C++ file."""
