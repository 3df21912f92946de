package server_test

import (
	"os"
	"testing"

	"github.com/claviger/claviger/internal/durable/powertest"
	"github.com/claviger/claviger/internal/leakcheck"
)

func TestMain(m *testing.M) {
	powertest.Serve()
	os.Exit(leakcheck.Run(m))
}
