package etcd

import (
	"os"
	"testing"

	"github.com/claviger/claviger/internal/leakcheck"
	"github.com/claviger/claviger/internal/store/etcd/etcdtest"
)

func TestMain(m *testing.M) {
	etcdtest.RunMember()
	os.Exit(leakcheck.Run(m))
}
