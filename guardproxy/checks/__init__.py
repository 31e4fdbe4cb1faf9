"""The checks: what each looks for, and the runner that asks them all."""
