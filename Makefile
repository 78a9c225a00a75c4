# The verbs CI runs are the verbs a person types.
.PHONY: lint types test slow docs processors gpu check

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

gpu:
	@python -m benchmarks.gpu

docs:
	mkdocs build --strict --site-dir site

check: lint types docs test
