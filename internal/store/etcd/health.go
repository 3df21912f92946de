package etcd

import (
	"context"
	"encoding/json/v2"
	"fmt"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	healthEvery = 10 * time.Second
	// nearlyFull is the part of its quota from which on a member that fills is an alarm.
	nearlyFull = 0.7
	// full is the part from which on the rest is kept for what takes something away.
	full = 0.95
)

// A Member is what a member of the cluster says of itself.
type Member struct {
	Endpoint string
	Error    string   `json:",omitzero"` // why it does not answer
	Version  string   `json:",omitzero"`
	Leads    bool     `json:",omitzero"`
	Behind   uint64   // entries that it knows of and has not applied
	Bytes    int64    // of its file
	Used     int64    // of these
	Quota    int64    // of the file: what etcd 3.6 and later tell; 0: not known
	Alarms   []string `json:",omitzero"`
}

// Full is the part of its quota that a member has used up; 0: not known.
func (m Member) Full() float64 {
	if m.Quota == 0 {
		return 0
	}
	return float64(m.Bytes) / float64(m.Quota)
}

// A Running is a node that is there now.
type Running struct {
	Name  string
	Host  string
	Since time.Time
	Leads bool // does what one node does for all
}

// A Health is the state of the cluster.
type Health struct {
	ID       string
	Revision int64 // through which this node's view is complete
	Members  []Member
	Nodes    []Running
}

// Alarms are what an operator has to look at, in sentences.
func (h Health) Alarms() (out []string) {
	answer := 0
	for _, m := range h.Members {
		switch {
		case m.Error != "":
			out = append(out, fmt.Sprintf("etcd member %s does not answer: %s", m.Endpoint, m.Error))
			continue
		case m.Full() >= full:
			out = append(out, fmt.Sprintf("etcd member %s has used %.0f%% of its quota: nothing can be created any more, and soon nothing changed; compact and defragment it, or raise --quota-backend-bytes", m.Endpoint, 100*m.Full()))
		case m.Full() >= nearlyFull:
			out = append(out, fmt.Sprintf("etcd member %s has used %.0f%% of its quota: compact and defragment it, or raise --quota-backend-bytes, before nothing can be changed any more", m.Endpoint, 100*m.Full()))
		}
		for _, a := range m.Alarms {
			out = append(out, fmt.Sprintf("etcd member %s: %s", m.Endpoint, a))
		}
		answer++
	}
	if len(h.Members) > 0 && answer <= len(h.Members)/2 {
		out = append(out, "most members of the etcd cluster do not answer: nothing can be changed, and soon nothing decided")
	}
	return out
}

// Health asks every member and looks which nodes are running. What cannot be learned is
// said in it.
func (e *Engine) Health(ctx context.Context) (Health, error) {
	h := Health{ID: fmt.Sprintf("%x", e.cluster), Revision: e.view.instant().through, Members: e.members(e.statuses(ctx))}
	ctx, cancel := context.WithTimeout(ctx, tryTimeout)
	defer cancel()
	lead, err := e.client.Get(ctx, e.prefix+leadKey)
	if err != nil {
		return h, fmt.Errorf("etcd: %w", err)
	}
	there, err := e.client.Get(ctx, e.prefix+nodePrefix, clientv3.WithPrefix())
	if err != nil {
		return h, fmt.Errorf("etcd: %w", err)
	}
	for _, kv := range there.Kvs {
		var p presence
		if err := json.Unmarshal(kv.Value, &p); err != nil {
			continue // another program's
		}
		name := strings.TrimPrefix(string(kv.Key), e.prefix+nodePrefix)
		h.Nodes = append(h.Nodes, Running{name, p.Host, p.Since, len(lead.Kvs) > 0 && string(lead.Kvs[0].Value) == name})
	}
	return h, nil
}

func (e *Engine) members(all []status) (out []Member) {
	for i, answer := range all {
		m, s := Member{Endpoint: e.config.Endpoints[i]}, answer.answer
		if answer.err != nil {
			m.Error = answer.err.Error()
		} else {
			m.Version, m.Leads, m.Behind = s.Version, s.Leader == s.Header.MemberId, s.RaftIndex-min(s.RaftIndex, s.RaftAppliedIndex)
			m.Bytes, m.Used, m.Quota, m.Alarms = s.DbSize, s.DbSizeInUse, s.DbSizeQuota, s.Errors
		}
		out = append(out, m)
	}
	return out
}

// tend looks at the members again and again, and tells of an alarm once.
func (e *Engine) tend() {
	told := map[string]bool{}
	for {
		select {
		case <-e.ctx.Done():
			return
		case <-time.After(healthEvery):
		}
		h := Health{Members: e.members(e.statuses(e.ctx))}
		now := map[string]bool{}
		for _, a := range h.Alarms() {
			if now[a] = true; !told[a] && e.ctx.Err() == nil {
				e.logger.Warn(a)
			}
		}
		told = now
		e.measure(h.Members)
	}
}

// measure takes up how much space the members use.
func (e *Engine) measure(members []Member) {
	var bytes int64
	var used float64
	for _, m := range members {
		bytes, used = max(bytes, m.Bytes), max(used, m.Full())
	}
	if bytes > 0 { // somebody answers
		e.size.Store(bytes)
		e.full.Store(used >= full)
	}
}
