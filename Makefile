# The targets that people type. CI runs .ci/run, which calls the tools itself.
FUZZTIME ?= 20s

.PHONY: build demo test integration bench fuzz lint image

build: ## bin/sluice, static
	CGO_ENABLED=0 go build -trimpath -o bin/sluice ./cmd/sluice

demo: ## the offline tour
	go run ./cmd/sluice demo

test: ## everything that needs no tools; clients that are not installed are skipped
	go test ./...

integration: ## real clients against the real binary; a missing client is a failure
	SLUICE_CI=1 go test -count=1 ./integration

bench: ## beside distribution's registry (with the benchmarks of analyzer/), then the rest of the Go benchmarks
	go run ./integration/bench
	go test -run='^$$' -bench=. -benchmem ./proxy/...

fuzz: ## each fuzz target for FUZZTIME
	@grep -rlE --include='*_test.go' '^func Fuzz' . | xargs -n1 dirname | sort -u | while read -r dir; do \
		for f in $$(grep -rhoE --include='*_test.go' '^func Fuzz[A-Za-z0-9_]+' "$$dir"/*_test.go | sed 's/^func //'); do \
			echo "$$dir $$f"; go test -run='^$$' -fuzz="^$$f\$$" -fuzztime=$(FUZZTIME) "$$dir" || exit 1; \
		done; \
	done

lint:
	golangci-lint run ./...
	golangci-lint fmt --diff ./...

image: ## the container image, with buildah and no registry
	.ci/image
