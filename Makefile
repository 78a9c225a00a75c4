# The verbs CI runs are the verbs a person types.
.PHONY: lint types test slow docs processors check

lint:
	ruff check .
	ruff format --check .

types:
	pyright

test:
	pytest

slow:
	pytest -m slow

processors:
	.ci/processors

docs:
	mkdocs build --strict --site-dir site

check: lint types docs test
