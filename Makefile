# The verbs CI runs are the verbs a person types.
.PHONY: lint types test slow docs check

lint:
	ruff check .
	ruff format --check .

types:
	pyright

test:
	pytest

slow:
	pytest -m slow

docs:
	mkdocs build --strict --site-dir site

check: lint types docs test
