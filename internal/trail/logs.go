package trail

import (
	"context"
	"encoding/json/v2"
	"fmt"
	"sync"

	"github.com/claviger/claviger/internal/model/trailapi"
)

// A found is an event, and where its log is read on after it.
type found struct {
	Event trailapi.Event
	After place
}

// A logPage is what one log has for an answer.
type logPage struct {
	Found []found // newest first
	Begin place
	End   place
}

// here reads the log of this node.
func (s *Service) here(q *query, from place) (l logPage, err error) {
	if from.Done {
		return logPage{Begin: from, End: from}, nil
	}
	if from.At.Segment == 0 {
		if from.At, err = s.log.Until(q.End); err != nil {
			return l, err
		}
	}
	p := page{query: q, place: from}
	err = s.log.Newest(from.At, p.next)
	p.Done = !p.more
	return logPage{p.found, from, p.place}, err
}

// A question is what one node asks another.
type question struct {
	Query   query
	From    place
	Request string `json:",omitzero"` // asks for the record of that request, and not for events
}

// Answer answers another node.
func (s *Service) Answer(ctx context.Context, text []byte) ([]byte, error) {
	var q question
	if err := json.Unmarshal(text, &q); err != nil {
		return nil, fmt.Errorf("trail: %w", err)
	}
	if q.Request != "" {
		part, err := s.search(ctx, q.Request, q.From.At)
		if err != nil {
			return nil, err
		}
		return json.Marshal(part)
	}
	if q.Query.Limit < 1 || q.Query.Limit > maxPage {
		return nil, fmt.Errorf("trail: a page of %d events", q.Query.Limit)
	}
	l, err := s.here(&q.Query, q.From)
	if err != nil {
		return nil, err
	}
	return json.Marshal(l)
}

// maxMissed is for how many pages a node is asked that does not answer.
const maxMissed = 3

// everywhere reads the logs of all nodes. One that does not answer is left out of this page,
// and asked again for the next ones.
func (s *Service) everywhere(ctx context.Context, q *query, at cursor) (map[string]logPage, error) {
	me := s.db.Node()
	mine, err := s.here(q, at.Logs[me])
	if err != nil || s.others == nil {
		return map[string]logPage{me: mine}, err
	}
	nodes, err := s.others.Nodes(ctx)
	if err != nil {
		return nil, err
	}
	logs := map[string]logPage{me: mine}
	var mu sync.Mutex // guards logs
	var wg sync.WaitGroup
	for _, node := range nodes {
		wg.Go(func() {
			l, err := s.there(ctx, node, question{Query: *q, From: at.Logs[node]})
			if err != nil {
				s.logger.Warn("events of a node are left out of a page", "err", err)
				l.End = at.Logs[node]
				l.End.Missed++
				l.End.Done = l.End.Missed >= maxMissed // otherwise a page would follow for ever
				l.Begin = l.End
			}
			mu.Lock()
			defer mu.Unlock()
			logs[node] = l
		})
	}
	wg.Wait()
	return logs, nil
}

// there has another node read its log.
func (s *Service) there(ctx context.Context, node string, q question) (l logPage, err error) {
	if q.From.Done {
		return logPage{Begin: q.From, End: q.From}, nil
	}
	err = s.ask(ctx, node, q, &l)
	return l, err
}

// ask has another node answer.
func (s *Service) ask(ctx context.Context, node string, q question, answer any) error {
	text, err := json.Marshal(q)
	if err == nil {
		text, err = s.others.Lookup(ctx, node, text)
	}
	if err == nil {
		err = json.Unmarshal(text, answer)
	}
	return err
}

// newest takes the newest events of all logs, and tells where each is read on.
func newest(logs map[string]logPage, limit int) (events []trailapi.Event, next map[string]place) {
	next = map[string]place{}
	left := map[string][]found{}
	for node, l := range logs {
		next[node], left[node] = l.Begin, l.Found
	}
	for len(events) < limit {
		newestOf, any := "", false
		for node, f := range left {
			if len(f) > 0 && (!any || f[0].Event.EventTime.After(left[newestOf][0].Event.EventTime.Time)) {
				newestOf, any = node, true
			}
		}
		if !any {
			break
		}
		f := left[newestOf][0]
		events = append(events, f.Event)
		next[newestOf], left[newestOf] = f.After, left[newestOf][1:]
	}
	for node, f := range left {
		if len(f) == 0 {
			next[node] = logs[node].End
		}
	}
	return events, next
}
