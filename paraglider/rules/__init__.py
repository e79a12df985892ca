"""The wanted rules: plan rulesets as values, render them as text, parse and compare them."""
