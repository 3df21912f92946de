# make run   builds Claviger and serves in development mode
# make test  installs what the tests need and runs everything that CI runs, but for
#            test-clients
export GOTOOLCHAIN := go1.27.3
# The program is compiled by the profile beside its source; tests and tools are not.
export GOFLAGS := -buildvcs=false -pgo=off
GO := go

.PHONY: run build test test-clients torture cluster-test cluster-prove upgrade-test check tools generate bench bench-tools profile capacity fuzz fuzz-long agreement prove differential clean

# ARGS are further flags of claviger serve.
run: build
	exec ./bin/claviger serve --dev $(ARGS)

build:
	$(GO) build -trimpath -pgo=auto -o bin/claviger ./cmd/claviger

test: tools check
	$(GO) test -race -timeout 20m ./...
	$(GO) test -race -tags pkcs11 ./internal/seal/...
	cd deploy && $(GO) test ./...
	$(MAKE) fuzz

# Programs and libraries that people use AWS KMS with, doing their job. Takes the
# network to install them the first time.
test-clients:
	@test -e /usr/include/mongocrypt/mongocrypt.h || { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends libmongocrypt-dev pkg-config; }
	cd clients && $(GO) vet -tags cse ./... && $(GO) test -count 1 -timeout 30m -tags cse ./...

# kill -9 under concurrent writers, 500 times.
torture:
	$(GO) test ./cmd/claviger -count 1 -timeout 120m -run TestKill -v -kill-rounds 500

# Nodes and etcd members on hosts of their own under faults, for at least half an hour and
# a hundred thousand revocations. Needs root, for network namespaces.
cluster-test:
	$(GO) test ./cmd/claviger -count 1 -timeout 180m -run TestCluster -v -cluster-time 30m -cluster-revocations 100000 -cluster-clients 300

# Three nodes go from the program of another commit to this one and back, one after the
# other, while clients work: make upgrade-test FROM=COMMIT, one that has serve --drain-delay.
upgrade-test:
	rm -rf bin/from && git worktree prune
	git worktree add --force --detach bin/from $(FROM)
	cd bin/from && $(GO) build -o ../claviger-from ./cmd/claviger
	git worktree remove --force bin/from
	$(GO) test ./cmd/claviger -count 1 -run TestRollingUpgrade -v -upgrade-from $(CURDIR)/bin/claviger-from

# The protocol between nodes in simulated time, a hundred thousand schedules.
cluster-prove:
	$(GO) test ./internal/store -count 1 -timeout 60m -run TestProtocol -v -schedules 33400

# What must be clean before any test counts.
check:
	@echo gofmt; test -z "$$(gofmt -l bench clients cmd deploy internal kmstest tools)" || { gofmt -l bench clients cmd deploy internal kmstest tools; exit 1; }
	$(GO) mod tidy -diff
	$(GO) vet ./...
	$(GO) vet -tags pkcs11 ./...
	cd bench && $(GO) mod tidy -diff && $(GO) vet ./...
	cd deploy && $(GO) mod tidy -diff && $(GO) vet ./...
	$(GO) vet -tags smt,faults ./internal/analyze
	$(GO) tool staticcheck -checks all,-ST1000 ./...
	$(GO) tool staticcheck -checks all,-ST1000 -tags pkcs11 ./internal/seal/...
	$(GO) run ./tools/regenerated

# The real AWS CLI, which the tests of the program talk to it with; an HSM
# and a TPM made of software, which the tests of the seals do; network namespaces, for the
# tests of clusters.
tools:
	@command -v ip >/dev/null && command -v tc >/dev/null || { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends iproute2; }
	@command -v softhsm2-util >/dev/null || { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends softhsm2; }
	@command -v swtpm >/dev/null || { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends swtpm; }
	@command -v systemd-analyze >/dev/null || { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends systemd; }
	@command -v aws >/dev/null || { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -qy awscli; }

generate:
	$(GO) generate ./...

# A short run of every fuzz target, two at a time; fuzz-long runs each for ten minutes.
# Little of it is spent on making interesting inputs shorter.
FUZZTIME := 20s
FUZZJOBS := 2
fuzz:
	@grep -ro --include='*_test.go' '^func Fuzz[A-Za-z0-9_]*' cmd internal kmstest tools | sed 's|^\(.*\)/[^/]*:func \(.*\)|./\1 \2|' | sort | \
	  xargs -P $(FUZZJOBS) -L 1 sh -c 'out=$$($(GO) test -run "^$$" -fuzz "^$$1$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 1s -parallel 1 $$0 2>&1) && \
	    done=$$(echo "$$out" | grep "fuzz: elapsed" | tail -n 1) && test -n "$$done" && echo "$$0 $$1 $$done" || { echo "$$0 $$1"; echo "$$out"; exit 255; }'

fuzz-long:
	$(MAKE) fuzz FUZZTIME=10m

# The decision against the slow evaluator of the tests, more than a million times.
agreement:
	$(GO) test ./internal/authz -count 1 -timeout 60m -run 'Agreement|Corpus|Never|Order' -rapid.checks=2500

# What the analysis of policies claims, against many random requests and against a solver;
# and whether the tests find faults that are planted in it.
prove:
	$(GO) test ./internal/analyze -count 1 -timeout 60m -run 'Random|Pointwise' -analyze.rounds 20000
	@command -v cvc5 >/dev/null || { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends cvc5; }
	$(GO) test -tags smt ./internal/analyze -count 1 -timeout 60m -run Solver -v -analyze.rounds 3000
	$(GO) test -tags faults ./internal/analyze -count 1 -timeout 60m -run PlantedFaults

# The decision against another implementation, which npm installs outside of the
# repository. Needs node.
NODE_FOLDER := $(or $(TMPDIR),/tmp)/claviger-differential
differential:
	npm install --silent --no-fund --no-audit --prefix $(NODE_FOLDER) @cloud-copilot/iam-simulate@0.1.173 @cloud-copilot/iam-policy
	NODE_FOLDER=$(NODE_FOLDER) $(GO) test ./internal/authz -count 1 -tags differential -run Differential -v

# Micro-benchmarks, then whole requests against the same server doing nothing and against
# another server.
PROFILE := cmd/claviger/default.pgo
BENCH_FOLDER := $(or $(TMPDIR),/tmp)/claviger-bench
bench: bench-tools
	$(GO) test -run '^$$' -bench . -benchmem ./internal/...
	cd bench && $(GO) test -bench . -cpu 1
	$(GO) build -pgo=$(PROFILE) -o $(BENCH_FOLDER)/wholerequest ./tools/wholerequest
	$(BENCH_FOLDER)/wholerequest -vegeta $(BENCH_FOLDER)/vegeta -local-kms $(BENCH_FOLDER)/local-kms

bench-tools:
	@command -v wrk >/dev/null || { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends wrk; }
	@test -e $(BENCH_FOLDER)/vegeta || GOBIN=$(BENCH_FOLDER) $(GO) install github.com/tsenart/vegeta/v12@v12.13.0
	@test -e $(BENCH_FOLDER)/local-kms || GOBIN=$(BENCH_FOLDER) $(GO) install github.com/nsmithuk/local-kms@v0.0.0-20260228092603-2a5e92d09ab6

# A store of a million keys and a million grants: half an hour to make, some
# gigabytes of disk.
CAPACITY := 1000000
capacity: build
	$(GO) run ./tools/capacity -program bin/claviger -keys $(CAPACITY)

# Renews the profile that the program is compiled by.
profile: bench-tools
	$(GO) build -o $(BENCH_FOLDER)/wholerequest ./tools/wholerequest
	for o in Encrypt Decrypt GenerateDataKey Sign; do \
	  $(BENCH_FOLDER)/wholerequest -operations $$o -rounds 1 -span 10s -profile $(BENCH_FOLDER)/$$o.profile || exit; done
	$(GO) tool pprof -proto $(BENCH_FOLDER)/*.profile > $(PROFILE)

clean:
	rm -rf bin
