package store

import "sync"

// memoRecords bounds how many decoded records are kept.
const memoRecords = 200_000

const memoShards = 64

// longKey is where the absence of a record is not remembered any more: no record
// has such a key, and whoever asks for many of them should not fill the memory.
const longKey = 512

// A memo keeps decoded records. It may forget anything at any time and is never
// wrong: an entry is there only while no later commit touched its record.
type memo struct {
	shards [memoShards]memoShard
}

type memoShard struct {
	mu      sync.RWMutex // guards both maps
	entries map[string]memoEntry
	loading map[string]*load
}

// A memoEntry is a decoded record, or the knowledge that there is none.
type memoEntry struct {
	rev   Rev // the commit that wrote it; for an absent record the instant it was looked for
	value any // nil: absent
}

// A load is a read in flight. A commit that touches the record meanwhile sets
// overtaken, and then the value read before it is not kept.
type load struct {
	readers   int
	overtaken Rev
}

func (m *memo) init() {
	for i := range m.shards {
		m.shards[i].entries = map[string]memoEntry{}
		m.shards[i].loading = map[string]*load{}
	}
}

// shard spreads keys by their last bytes, which are those of an id or a name.
func (m *memo) shard(key string) *memoShard {
	n, h := len(key), uint32(0)
	for _, c := range []byte(key[max(0, n-4):]) {
		h = h*31 + uint32(c)
	}
	return &m.shards[h%memoShards]
}

func (m *memo) get(key string) (memoEntry, bool) {
	s := m.shard(key)
	s.mu.RLock()
	defer s.mu.RUnlock()
	e, ok := s.entries[key]
	return e, ok
}

// begin announces a read of the engine; end must follow.
func (m *memo) begin(key string) {
	s := m.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.loading[key]
	if l == nil {
		l = &load{}
		s.loading[key] = l
	}
	l.readers++
}

// end keeps what was read at the instant at, unless a later commit has touched
// the record, or failed says there is nothing to keep.
func (m *memo) end(key string, e memoEntry, at Rev, failed bool) {
	s := m.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.loading[key]
	if l.readers--; l.readers == 0 {
		delete(s.loading, key)
	}
	if failed || l.overtaken > at || e.value == nil && len(key) > longKey {
		return
	}
	if len(s.entries) >= memoRecords/memoShards {
		for other := range s.entries { // any will do
			delete(s.entries, other)
			break
		}
	}
	s.entries[key] = e
}

func (m *memo) forget(key string, rev Rev) {
	s := m.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.entries, key)
	if l := s.loading[key]; l != nil {
		l.overtaken = rev
	}
}

func (m *memo) len() (n int) {
	for i := range m.shards {
		m.shards[i].mu.RLock()
		n += len(m.shards[i].entries)
		m.shards[i].mu.RUnlock()
	}
	return n
}

// forgetAll forgets everything, also what is being read of an instant before rev.
func (m *memo) forgetAll(rev Rev) {
	for i := range m.shards {
		s := &m.shards[i]
		s.mu.Lock()
		clear(s.entries)
		for _, l := range s.loading {
			l.overtaken = rev
		}
		s.mu.Unlock()
	}
}
