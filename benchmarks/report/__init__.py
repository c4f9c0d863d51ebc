"""Results as one HTML file and as README's table."""
