package stage

import (
	"os"
	"testing"

	"github.com/claviger/claviger/internal/leakcheck"
)

func TestMain(m *testing.M) { os.Exit(leakcheck.Run(m)) }
