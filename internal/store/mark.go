package store

import (
	"context"
	"strings"
)

// Marks let the audit log settle after a crash what became of a change whose
// outcome it does not hold: a transaction that commits leaves its mark, and the
// mark goes once the outcome is recorded.
const markPrefix = "sys/mark/"

// settledAtOnce is how many marks one transaction removes at most.
const settledAtOnce = 32

// A mark is the empty record of a finished transaction.
type mark struct{}

var markKind = Kind[mark]{Tag: 1, Name: "mark"}

// Mark makes the transaction leave a mark named id.
func (tx *Tx) Mark(id string) error { return Put(tx, markKind, tx.db.marks()+id, &mark{}) }

// marks is before the marks of this node: it settles its own changes alone.
func (db *DB) marks() string { return MarksOf(db.Node()) }

// MarksOf is before the marks of a node; without a name, of a store that is not shared.
func MarksOf(node string) string {
	if node != "" {
		return "sys/marks/" + node + "/"
	}
	return markPrefix
}

// Unmark says that the outcome of id is recorded. Its mark goes with some later
// transaction that has something to do AtCommit.
func (db *DB) Unmark(id string) { db.settle(db.marks() + id) }

func (db *DB) settle(keys ...string) {
	db.marksMu.Lock()
	defer db.marksMu.Unlock()
	db.settled = append(db.settled, keys...)
}

func (db *DB) takeSettled(n int) []string {
	db.marksMu.Lock()
	defer db.marksMu.Unlock()
	n = min(n, len(db.settled))
	taken := db.settled[:n:n]
	db.settled = db.settled[n:]
	return taken
}

// Marks lists the marks that are left, at start: the changes that took effect
// and whose outcome the audit log of this node may lack.
func (db *DB) Marks(ctx context.Context) (map[string]bool, error) { return db.MarksOf(ctx, db.Node()) }

// MarksOf lists the marks of another node.
func (db *DB) MarksOf(ctx context.Context, node string) (map[string]bool, error) {
	prefix := MarksOf(node)
	marks := map[string]bool{}
	after := ""
	for {
		items, _, err := db.engine.Scan(ctx, prefix, after, 1000)
		if err != nil {
			return nil, err
		}
		for _, i := range items {
			marks[strings.TrimPrefix(i.Key, prefix)] = true
			after = i.Key
		}
		if len(items) < 1000 {
			return marks, nil
		}
	}
}
