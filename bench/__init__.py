"""What the product costs, measured. Nothing here is a test: a number never fails a build."""
