"""Presets (methods) and sizes (budgets), one TOML file each."""
