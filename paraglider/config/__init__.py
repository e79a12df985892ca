"""What the user asked for: YAML or environment variables in, a frozen `Config` out."""
