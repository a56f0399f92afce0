"""Pure arithmetic of separable convolutions: geometry, cost, forms, fits. Knows no graph."""
