# Needs make and Python >= 3.11 with venv; everything else goes into .venv, which is made on first
# use and brought up to date when pyproject.toml or constraints.txt change.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --constraint constraints.txt
SETUP := .venv/complete

.PHONY: demo test benchmark example clean

demo: $(SETUP)
	$(BIN)/ancestryvi embed data/example.vcf.gz --labels data/example.samples.tsv \
		--n-clusters 14 --out demo --force
	@echo "The report is demo/report.html"

test: $(SETUP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest --numprocesses logical --maxprocesses 4 --dist loadfile \
		--no-loadscope-reorder

benchmark: $(SETUP)
	$(BIN)/python benchmarks/methods.py

# Simulates the files of data/ again; they are part of the repository, so nothing else needs this.
example: $(SETUP)
	$(PIP) --group simulate
	$(BIN)/python data/simulate_example.py

clean:
	rm -rf .venv demo dist build .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# torch goes first: it is by far the largest, and a failure after it need not fetch it again.
$(SETUP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and \
		"ancestryvi needs Python >= 3.11, this is %d.%d: make PYTHON=..." % sys.version_info[:2])'
	$(PYTHON) -m venv .venv
	$(PIP) pip
	$(PIP) torch
	$(PIP) --group test --editable .
	touch $@
