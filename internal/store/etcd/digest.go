package etcd

import (
	"context"
	"encoding/binary"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/claviger/claviger/internal/store"
)

// digest works out the digest of the node after a group, and the conditions under which it
// is right: that each record that is replaced is the one that was read.
func (t *turns) digest(ctx context.Context, a *attempt, conditions map[string]store.Rev, do map[string][]byte, exact bool) (implied []clientv3.Cmp, err error) {
	var keys []string
	for k, v := range do {
		if !store.Digested(k) {
			continue
		}
		if v != nil {
			a.sum.Add(t.hash(k, 0, v))
		}
		if rev, ok := conditions[k]; !ok || rev != 0 {
			keys = append(keys, k)
		}
	}
	for len(keys) > 0 {
		n := min(len(keys), groupOps)
		r, err := t.present(ctx, keys[:n], exact)
		if err != nil {
			return nil, err
		}
		for i, k := range keys[:n] {
			kvs := r.Responses[i].GetResponseRange().Kvs
			if len(kvs) > 0 {
				a.sum.Sub(t.hash(k, 0, kvs[0].Value))
			}
			implied = append(implied, clientv3.Compare(clientv3.ModRevision(t.e.prefix+records+k), "=", modRevision(r.Responses[i].GetResponseRange())))
		}
		keys = keys[n:]
	}
	return implied, nil
}

// present reads records from the member that is asked, if it has come as far as the view, and
// else, or if it is to be exact, from a majority.
func (t *turns) present(ctx context.Context, keys []string, exact bool) (*clientv3.TxnResponse, error) {
	var options []clientv3.OpOption
	if !exact {
		options = append(options, clientv3.WithSerializable())
	}
	var gets []clientv3.Op
	for _, k := range keys {
		gets = append(gets, clientv3.OpGet(t.e.prefix+records+k, options...))
	}
	r, err := t.e.client.Txn(ctx).Then(gets...).Commit()
	if err == nil && !exact && r.Header.Revision < int64(t.e.view.instant().commit) {
		return t.present(ctx, keys, true)
	}
	return r, err
}

// masked is a digest as it is kept: a number used once, and the sum with a hash of that. Who
// sees one after the other learns nothing of what a single record adds to them.
func (t *turns) masked(d store.Digest) []byte {
	once := nonce()
	d.Add(t.hash(digestPrefix+t.e.config.Node, 0, once))
	out := once
	for _, part := range d {
		out = binary.LittleEndian.AppendUint64(out, part)
	}
	return out
}

// unmasked is a digest that masked made for a node.
func unmasked(hash store.Hash, node string, text []byte) (d store.Digest) {
	const once = 16
	if len(text) != once+8*len(d) {
		return d
	}
	for i := range d {
		d[i] = binary.LittleEndian.Uint64(text[once+8*i:])
	}
	d.Sub(hash(digestPrefix+node, 0, text[:once]))
	return d
}
