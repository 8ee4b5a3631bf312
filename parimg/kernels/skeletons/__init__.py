"""Skeletons as graphs of pixels: branches, their lengths, and what is asked of them."""
