"""SIFT features of gray images: the same bits on every processor, and the answers of OpenCV's."""
