"""The region of a feature map that is most like a query, by sums or by approximate max-pooling."""
