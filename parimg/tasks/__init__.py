"""What is done to each image: one file a task, each a frozen dataclass called with one image.

A task knows nothing of clusters; it may use `parimg.kernels` and `parimg.images`.
"""
