// Package claviger is the root of the module; the program is in cmd/claviger and
// the test server for other people's tests in kmstest.
package claviger

//go:generate go run ./tools/compatibility
//go:generate go run ./tools/rules
