# The verbs CI runs are the verbs a person types.
.PHONY: lint types test slow check

lint:
	ruff check .
	ruff format --check .

types:
	pyright

test:
	pytest

slow:
	pytest -m slow

check: lint types test
