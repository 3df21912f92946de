package server

import (
	"context"
	"encoding/json/v2"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/claviger/claviger/internal/audit"
	"github.com/claviger/claviger/internal/iam"
	"github.com/claviger/claviger/internal/store"
	"github.com/claviger/claviger/internal/store/etcd"
)

// ErrAlone reports that a store is not shared.
var ErrAlone = errors.New("server: the store is in the data directory, and no other node shares it")

// A member is what the store knows of a node that has ever served it. That it is there
// does not say that it is running.
type member struct {
	Name    string
	Host    string
	URL     string `json:",omitzero"` // where other nodes reach it
	Version string // of the program
	Since   time.Time
}

var memberKind = store.Kind[member]{Tag: 6, Name: "node"}

const memberPrefix = "sys/node/"

// join tells the others of this node.
func (c Config) join(ctx context.Context, db *store.DB) error {
	if db.Node() == "" {
		return nil
	}
	host, _ := os.Hostname() // for people alone
	m := &member{Name: db.Node(), Host: host, URL: c.URL, Version: programVersion(), Since: time.Now().UTC().Truncate(time.Second)}
	return db.Update(ctx, func(tx *store.Tx) error {
		tx.OnlyAdds()
		return store.Put(tx, memberKind, memberPrefix+m.Name, m)
	})
}

// errUnknownNode reports a data directory of a node of which the store knows nothing.
var errUnknownNode = errors.New("server: the audit log is of a node that was forgotten, or that joined after the backup from which the store was restored")

// checkLog refuses to go on with the audit log of a node that the store does not know.
func (c Config) checkLog(ctx context.Context, db *store.DB) error {
	log := NodeLog{db.Node(), c.logDir()}
	if log.Node == "" || !log.there() {
		return nil
	}
	nodes, err := members(ctx, db)
	if err != nil || slices.ContainsFunc(nodes, func(m member) bool { return m.Name == log.Node }) {
		return err
	}
	key, err := findAuditKey(ctx, db, log.Node, false) // drawn before a node has a log
	if err == nil && key.Public == "" {
		err = fmt.Errorf("%w: keep the log in %s, and begin with an empty directory", errUnknownNode, log.Dir)
	}
	return err
}

func programVersion() string {
	if b, ok := debug.ReadBuildInfo(); ok && b.Main.Version != "" && b.Main.Version != "(devel)" {
		return b.Main.Version
	}
	return "devel"
}

// members lists the nodes that have ever served the store.
func members(ctx context.Context, db *store.DB) (out []member, err error) {
	err = db.View(store.Current(ctx), func(tx *store.Tx) error {
		entries, err := store.List(tx, memberKind, memberPrefix, "", maxMembers)
		out = nil
		for _, e := range entries {
			out = append(out, *e.Value)
		}
		return err
	})
	return out, err
}

const maxMembers = 1000

// What nodes ask each other about. Releases before the second one asked about events alone, and
// did not say so.
const (
	aboutEvents = ""
	aboutState  = "state"
)

// A NodeView is what a node says of itself.
type NodeView struct {
	Head  store.Rev // the last commit that it has seen
	Age   string    `json:",omitzero"` // how long ago its view was certainly current; empty: it never was
	Doubt string    `json:",omitzero"` // why it decides nothing
}

// view is what this node says of itself.
func (s *Server) view() (v NodeView) {
	v.Head = s.DB.Head()
	if age, ok := s.DB.Age(); ok {
		v.Age = age.Round(time.Millisecond).String()
	}
	if err := s.DB.Err(); err != nil {
		v.Doubt = err.Error()
	}
	return v
}

// answerState tells another node.
func (s *Server) answerState(context.Context, []byte) ([]byte, error) { return json.Marshal(s.view()) }

// viewOf asks another node.
func (s *Server) viewOf(ctx context.Context, m member) (v NodeView, err error) {
	text, err := s.asker.Ask(ctx, m.Name, m.URL, aboutState, nil)
	if err == nil {
		err = json.Unmarshal(text, &v)
	}
	return v, err
}

// A NodeState is a node as the cluster knows it.
type NodeState struct {
	Name    string
	Host    string
	URL     string `json:",omitzero"`
	Version string
	Running bool
	Since   time.Time // running, or when it began to run last
	Leads   bool      // does what one node does for all
	Audit   uint64    // how many lines its audit log has at least
	View    *NodeView `json:",omitzero"` // nil: it is not running, or did not say
}

// A ClusterState is what a node knows of its cluster.
type ClusterState struct {
	Node  string // which was asked
	Lease string // how long nodes decide by what they were last sure of
	NodeView
	Nodes   []NodeState
	Etcd    etcd.Health
	Alarms  []string `json:",omitzero"`
	Problem string   `json:",omitzero"` // why the state is not complete
}

// ClusterState tells what this node knows. ErrAlone: it shares its store with nobody.
func (s *Server) ClusterState(ctx context.Context) (ClusterState, error) {
	if s.cluster == nil {
		return ClusterState{}, ErrAlone
	}
	c := ClusterState{Node: s.DB.Node(), Lease: s.DB.Lease().String(), NodeView: s.view()}
	var err error
	if c.Etcd, err = s.cluster.Health(ctx); err == nil {
		c.Nodes, err = s.nodes(ctx, c.Etcd.Nodes)
	}
	if err != nil {
		c.Problem = err.Error()
	}
	c.Alarms = c.Etcd.Alarms()
	for _, r := range c.Etcd.Nodes {
		if !slices.ContainsFunc(c.Nodes, func(n NodeState) bool { return n.Name == r.Name }) && c.Problem == "" {
			c.Alarms = append(c.Alarms, fmt.Sprintf("the node %s is running and was forgotten: stop it", r.Name))
		}
	}
	for _, n := range c.Nodes {
		switch {
		case n.View != nil && n.View.Doubt != "":
			c.Alarms = append(c.Alarms, fmt.Sprintf("the node %s decides nothing: %s", n.Name, n.View.Doubt))
		case n.Running && n.View == nil:
			c.Alarms = append(c.Alarms, fmt.Sprintf("the node %s is running, and does not answer this one at %s", n.Name, n.URL))
		case !n.Running:
			c.Alarms = append(c.Alarms, fmt.Sprintf("the node %s is not running; if it is gone for good, keep its audit log and say claviger cluster forget --node %s", n.Name, n.Name))
		}
	}
	return c, nil
}

func (s *Server) nodes(ctx context.Context, running []etcd.Running) (out []NodeState, err error) {
	known, err := members(ctx, s.DB)
	if err != nil {
		return nil, err
	}
	for _, m := range known {
		n := NodeState{Name: m.Name, Host: m.Host, URL: m.URL, Version: m.Version, Since: m.Since}
		if i := slices.IndexFunc(running, func(r etcd.Running) bool { return r.Name == m.Name }); i >= 0 {
			n.Running, n.Leads = true, running[i].Leads
		}
		head, err := iam.AuditAnchorOf(ctx, s.DB, m.Name)
		if err != nil {
			return nil, err
		}
		n.Audit = head.Sequence
		out = append(out, n)
	}
	var wg sync.WaitGroup
	for i := range out {
		switch n := &out[i]; {
		case n.Name == s.DB.Node():
			n.View = new(s.view())
		case n.Running:
			wg.Go(func() {
				if v, err := s.viewOf(ctx, known[i]); err == nil {
					n.View = &v
				}
			})
		}
	}
	wg.Wait()
	return out, nil
}

// Nodes are the other nodes that say where they are reached.
func (s *Server) Nodes(ctx context.Context) (names []string, err error) {
	known, err := members(ctx, s.DB)
	for _, m := range known {
		if m.Name != s.DB.Node() && m.URL != "" {
			names = append(names, m.Name)
		}
	}
	return names, err
}

// Lookup has another node look up events.
func (s *Server) Lookup(ctx context.Context, name string, question []byte) ([]byte, error) {
	var url string
	err := s.DB.View(ctx, func(tx *store.Tx) error {
		m, err := store.Get(tx, memberKind, memberPrefix+name)
		if err == nil {
			url = m.URL
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("server: the node %s: %w", name, err)
	}
	return s.asker.Ask(ctx, name, url, aboutEvents, question)
}

// SetLease makes all nodes agree on another lease. It takes some leases.
func (s *Server) SetLease(ctx context.Context, lease time.Duration) error {
	if s.cluster == nil {
		return ErrAlone
	}
	return s.operated("SetLease", map[string]string{"lease": lease.String()}, func() error { return s.DB.SetLease(ctx, lease) })
}

// ForgetNode ends that the store knows of a node that is gone for good, and of its audit
// log. One that is running is not forgotten; one that only seemed to be gone stops.
func (s *Server) ForgetNode(ctx context.Context, name string) error {
	if s.cluster == nil {
		return ErrAlone
	}
	h, err := s.cluster.Health(ctx)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(h.Nodes, func(r etcd.Running) bool { return r.Name == name }) {
		return fmt.Errorf("server: the node %s is running", name)
	}
	head, err := iam.AuditAnchorOf(ctx, s.DB, name)
	if err != nil {
		return err
	}
	marks, err := s.DB.MarksOf(ctx, name)
	if err != nil {
		return err
	}
	return s.operated("ForgetNode", map[string]string{"node": name, "auditLines": fmt.Sprint(head.Sequence), "auditHash": head.Hash}, func() error {
		if err := s.cluster.Depose(ctx, name); err != nil { // first: it can be tried again
			return err
		}
		return s.DB.Update(ctx, func(tx *store.Tx) error {
			if _, err := store.Get(tx, memberKind, memberPrefix+name); errors.Is(err, store.ErrNotFound) {
				return fmt.Errorf("server: there is no node %s", name)
			} else if err != nil {
				return err
			}
			tx.OnlyAdds()
			tx.Delete(memberPrefix + name)
			tx.Delete(iam.AuditAnchorKey(name))
			tx.Delete(auditKeyKey(name))
			for id := range marks {
				tx.Delete(store.MarksOf(name) + id)
			}
			return nil
		})
	})
}

// A NodeLog is the audit log of one node, in a directory.
type NodeLog struct {
	Node string
	Dir  string
}

// VerifyLogs checks the audit logs of all nodes: each against its own chain, its checkpoints
// and what the store knows of it. One that is missing is an error.
func VerifyLogs(states map[string]AuditState, logs []NodeLog) (reports map[string]audit.Report, err error) {
	reports = map[string]audit.Report{}
	for _, l := range logs {
		state, ok := states[l.Node]
		if !ok {
			err = errors.Join(err, fmt.Errorf("server: the store knows no node %s, whose log is said to be in %s", l.Node, l.Dir))
			continue
		}
		report, failed := state.Verify(l.Dir)
		if failed != nil {
			failed = fmt.Errorf("the log of the node %s: %w", l.Node, failed)
		}
		err = errors.Join(err, failed)
		reports[l.Node] = report
	}
	var missing []string
	for node, state := range states {
		if !slices.ContainsFunc(logs, func(l NodeLog) bool { return l.Node == node }) {
			missing = append(missing, fmt.Sprintf("%s (at least %d lines)", node, state.Anchor.Sequence))
		}
	}
	if slices.Sort(missing); len(missing) > 0 {
		err = errors.Join(err, fmt.Errorf("server: the logs of these nodes are missing: %s", strings.Join(missing, ", ")))
	}
	return reports, err
}

// AuditStates returns what the store knows of the audit log of each node.
func (s *Server) AuditStates(ctx context.Context) (map[string]AuditState, error) {
	return auditStates(ctx, s.DB)
}

func auditStates(ctx context.Context, db *store.DB) (map[string]AuditState, error) {
	states := map[string]AuditState{}
	known, err := members(ctx, db)
	for _, m := range known {
		if err == nil {
			states[m.Name], err = auditStateOf(ctx, db, m.Name)
		}
	}
	return states, err
}
