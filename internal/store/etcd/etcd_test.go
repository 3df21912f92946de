package etcd_test

import (
	"testing"
	"time"
	"context"
	"fmt"

	"github.com/claviger/claviger/internal/store"
	"github.com/claviger/claviger/internal/store/etcd"
	"github.com/claviger/claviger/internal/store/etcd/etcdtest"
)

func TestX(t *testing.T) {
	t0 := time.Now()
	c := etcdtest.Start(t, 3)
	fmt.Println("started", time.Since(t0))
	t0 = time.Now()
	e, err := etcd.Open(t.Context(), etcd.Config{Endpoints: c.Endpoints(), Prefix: "/claviger/", Node: "n1", Instance: "x"})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	fmt.Println("open", time.Since(t0))
	for range 5 {
		t0 = time.Now()
		rev, err := e.Commit(t.Context(), store.Txn{Do: []store.Item{{Key: "a", Val: []byte("x")}}})
		fmt.Println(rev, err, time.Since(t0))
		t0 = time.Now()
		fmt.Println(e.Reach(context.Background()), time.Since(t0))
		t0 = time.Now()
		fmt.Println(e.Get(t.Context(), "a"))
		fmt.Println(time.Since(t0))
	}
}
