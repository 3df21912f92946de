module github.com/claviger/claviger/bench

go 1.27

toolchain go1.27.3

replace github.com/claviger/claviger => ../

require (
	github.com/cedar-policy/cedar-go v1.9.2
	github.com/claviger/claviger v0.0.0
)

require (
	github.com/go-json-experiment/json v1.27.2 // indirect
	golang.org/x/exp v0.0.0-20220921023135-46d9e7742f1e // indirect
)
