"""Shows results: tables, breakdowns, the model card and the report."""
