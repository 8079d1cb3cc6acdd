"""The events of a meeting over the tree: state comes down, sums and names go up."""
