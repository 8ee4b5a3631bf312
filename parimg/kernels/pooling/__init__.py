"""Feature maps to one vector an image: MAC, R-MAC, whitening, query expansion."""
