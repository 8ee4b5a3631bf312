"""Filters with a user's function, compiled into the loop over neighbourhoods, lines or coordinates."""
