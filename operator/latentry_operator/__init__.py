"""The control plane: typed resources, the pure planner, and the bodies that carry a plan out."""
