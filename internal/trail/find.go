package trail

import (
	"bytes"
	"context"
	"encoding/json/v2"
	"errors"
	"slices"
	"sync"

	"github.com/claviger/claviger/internal/audit"
	"github.com/claviger/claviger/internal/model"
)

// maxSearched is how much of its log a node looks through for one answer, in bytes.
const maxSearched = 64 << 20

// A searched is what a node has found of a request in a part of its log.
type searched struct {
	Line []byte `json:",omitzero"` // the newest one; empty: none
	Next audit.Place
	Done bool // there is nothing more to look through
}

// Find returns the newest record of a request, in the log of whichever node answered it; nil
// if there is none. A fault: there is none in the logs of the nodes that answered.
func (s *Service) Find(ctx context.Context, id string) (*audit.Record, error) {
	r, err := find(ctx, func(from audit.Place) (searched, error) { return s.search(ctx, id, from) })
	if r != nil || err != nil || s.others == nil {
		return r, err
	}
	nodes, err := s.others.Nodes(ctx)
	if err != nil {
		return nil, err
	}
	found, failed := make([]*audit.Record, len(nodes)), make([]error, len(nodes))
	var wg sync.WaitGroup
	for i, node := range nodes {
		wg.Go(func() {
			found[i], failed[i] = find(ctx, func(from audit.Place) (out searched, err error) {
				err = s.ask(ctx, node, question{Request: id, From: place{At: from}}, &out)
				return out, err
			})
		})
	}
	wg.Wait()
	if i := slices.IndexFunc(found, func(r *audit.Record) bool { return r != nil }); i >= 0 {
		return found[i], nil
	}
	if err := errors.Join(failed...); err != nil {
		s.logger.Warn("a request was not found, and a node did not answer", "err", err)
		return nil, model.NewFault("InternalFailure", 500, "The nodes that answer have no request "+id+" on record, and not all do.")
	}
	return nil, nil
}

// find has a log searched, part by part.
func find(ctx context.Context, search func(from audit.Place) (searched, error)) (*audit.Record, error) {
	var from audit.Place
	for {
		part, err := search(from)
		switch {
		case err != nil:
			return nil, err
		case len(part.Line) > 0:
			r := new(audit.Record)
			if err := json.Unmarshal(part.Line, r); err != nil {
				return nil, err
			}
			return r, nil
		case part.Done || ctx.Err() != nil:
			return nil, ctx.Err()
		}
		from = part.Next
	}
}

// search looks through a part of this node's log, from a place on to older lines.
func (s *Service) search(ctx context.Context, id string, from audit.Place) (searched, error) {
	out := searched{Next: from, Done: true}
	read := 0
	err := s.log.Newest(from, func(line []byte, begin audit.Place) bool {
		read += len(line)
		out.Next = begin
		var r audit.Record
		if bytes.Contains(line, []byte(id)) && json.Unmarshal(line, &r) == nil && r.RequestID == id {
			out.Line = slices.Clone(line)
			return false
		}
		out.Done = read < maxSearched && ctx.Err() == nil
		return out.Done
	})
	return out, err
}
