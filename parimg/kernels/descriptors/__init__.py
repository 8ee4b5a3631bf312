"""Descriptors of local features: nearest neighbours, matches, and their verification by geometry."""
