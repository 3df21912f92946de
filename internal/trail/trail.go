// Package trail is what there is of the CloudTrail API: looking up events in the audit
// log. It shows a caller the events of its account and Region of the last 90 days,
// newest first, as CloudTrail would have recorded them.
package trail

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json/v2"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/claviger/claviger/internal/audit"
	"github.com/claviger/claviger/internal/iam"
	"github.com/claviger/claviger/internal/model"
	"github.com/claviger/claviger/internal/model/trailapi"
	"github.com/claviger/claviger/internal/policy"
	"github.com/claviger/claviger/internal/store"
)

const (
	history   = 90 * 24 * time.Hour // how far back one can look
	maxPage   = 50                  // events of one answer, also when nothing is said
	tokenName = "CloudTrail.LookupEvents"
)

// What AWS says of a bad request. These texts are UNVERIFIED, but for that of MaxResults.
const (
	badKey     = "Lookup attribute key is not valid."
	badValue   = "Lookup attribute value is not valid."
	manyKeys   = "You can specify only one lookup attribute."
	badRange   = "Time range is not valid. The start time must not be after the end time."
	badMax     = "A max results value of %d is invalid. Specify max results between 1 and 50."
	badToken   = "The next token is not valid, or was returned for a request with other parameters."
	badInsight = "The event category is not valid. Specify insight, or none."
)

// A Service is the CloudTrail API over an audit log. It is safe for concurrent use.
type Service struct {
	db     *store.DB
	log    *audit.Log
	others Others
	logger *slog.Logger
}

// Others are the other nodes, each of which has an audit log of its own.
type Others interface {
	// Nodes are their names.
	Nodes(ctx context.Context) ([]string, error)
	// Lookup has a node find what it has; question and answer are this package's.
	Lookup(ctx context.Context, node string, question []byte) (answer []byte, err error)
}

// New makes the API over the log; db has the identities and policies of those who ask.
// others may be nil: there are none. logger is told of those that do not answer.
func New(db *store.DB, log *audit.Log, others Others, logger *slog.Logger) *Service {
	return &Service{db, log, others, logger}
}

// A Request is LookupEvents' input. The service has faults of its own for what breaks
// the model's constraints.
type Request trailapi.LookupEventsRequest

// Check finds nothing wrong.
func (*Request) Check(*model.Violations, string) {}

// LookupEvents finds events. A page may be short, or empty, with more to come: one
// request reads a bounded part of the log.
func (s *Service) LookupEvents(ctx context.Context, call *iam.Call, in *Request) (*trailapi.LookupEventsResponse, error) {
	if err := s.authorize(ctx, call); err != nil {
		return nil, err
	}
	q, err := newQuery(call, in)
	if err != nil {
		return nil, err
	}
	at, err := s.start(q, in)
	if err != nil {
		return nil, err
	}
	out := &trailapi.LookupEventsResponse{Events: []trailapi.Event{}}
	if in.EventCategory != nil {
		return out, nil // nobody looks for insights here
	}
	logs, err := s.everywhere(ctx, q, at)
	if err != nil {
		return nil, err
	}
	found, next := newest(logs, q.Limit)
	out.Events = append(out.Events, found...)
	slices.SortStableFunc(out.Events, func(a, b trailapi.Event) int { return b.EventTime.Compare(a.EventTime.Time) })
	if slices.ContainsFunc(slices.Collect(maps.Values(next)), func(l place) bool { return !l.Done }) {
		out.NextToken, err = s.seal(cursor{Logs: next, Bound: q.Bound})
	}
	return out, err
}

// authorize asks the caller's identity policies. CloudTrail's refusals name no resource.
func (s *Service) authorize(ctx context.Context, call *iam.Call) error {
	return call.View(ctx, s.db, func(tx *store.Tx) error {
		d, req, err := call.Decide(tx, iam.Query{Action: policy.MustAction("cloudtrail:LookupEvents"), Resource: "*", ResourceAccount: call.Account()})
		if err == nil && !d.Allowed() {
			err = model.NewFault("AccessDeniedException", 400, strings.Replace(d.Refusal(req), " on resource: *", "", 1))
		}
		return err
	})
}

// A query is what a request asks for.
type query struct {
	Account, Region string
	Key, Value      string // the lookup attribute; none: empty
	Start, End      time.Time
	Limit           int
	Bound           string // stands for all parameters
}

func newQuery(call *iam.Call, in *Request) (*query, error) {
	q := &query{Account: call.Account(), Region: call.Region, Start: call.Now.Add(-history), End: call.Now, Limit: int(model.Or(in.MaxResults, maxPage))}
	switch {
	case q.Limit < 1 || q.Limit > maxPage:
		return nil, trailapi.InvalidMaxResultsException(fmt.Sprintf(badMax, q.Limit))
	case in.EventCategory != nil && *in.EventCategory != trailapi.EventCategoryInsight:
		return nil, trailapi.InvalidEventCategoryException(badInsight)
	case in.StartTime != nil && in.EndTime != nil && in.StartTime.After(in.EndTime.Time):
		return nil, trailapi.InvalidTimeRangeException(badRange)
	case len(in.LookupAttributes) > 1:
		return nil, trailapi.InvalidLookupAttributesException(manyKeys)
	}
	for _, a := range in.LookupAttributes {
		q.Key, q.Value = model.Value(a.AttributeKey), model.Value(a.AttributeValue)
		switch {
		case attributes[q.Key] == nil:
			return nil, trailapi.InvalidLookupAttributesException(badKey)
		case q.Value == "" || len(q.Value) > 2000 || q.Key == trailapi.LookupAttributeKeyReadOnly && q.Value != "true" && q.Value != "false":
			return nil, trailapi.InvalidLookupAttributesException(badValue)
		}
	}
	if in.StartTime != nil && in.StartTime.After(q.Start) {
		q.Start = in.StartTime.Time
	}
	if in.EndTime != nil {
		q.End = in.EndTime.Time
	}
	asked := *in
	asked.NextToken = nil
	text, err := json.Marshal([]any{q.Account, q.Region, asked})
	sum := sha256.Sum256(text)
	q.Bound = hex.EncodeToString(sum[:])
	return q, err
}

// A cursor is where a page ends in each log and the next one goes on.
type cursor struct {
	Logs  map[string]place // by node; without a name, the only one
	Bound string
}

// A place is where one log is read on. The zero place is its end.
type place struct {
	At audit.Place
	// Settled are the requests whose outcome was settled by a later start and shown;
	// what stands before it in the log may have another one, which did not know.
	Settled []string `json:",omitzero"`
	Done    bool     `json:",omitzero"` // there is nothing more
	Missed  int      `json:",omitzero"` // how many pages it did not answer for
}

// start is where a request begins to read.
func (s *Service) start(q *query, in *Request) (c cursor, err error) {
	if in.NextToken == nil {
		return cursor{Bound: q.Bound}, nil
	}
	sealed, err := base64.StdEncoding.DecodeString(*in.NextToken)
	if err == nil {
		sealed, err = s.db.OpenToken(tokenName, sealed)
	}
	if err == nil {
		err = json.Unmarshal(sealed, &c)
	}
	if err != nil || c.Bound != q.Bound {
		return c, trailapi.InvalidNextTokenException(badToken)
	}
	return c, nil
}

func (s *Service) seal(c cursor) (*string, error) {
	text, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	sealed, err := s.db.Token(tokenName, text)
	return new(base64.StdEncoding.EncodeToString(sealed)), err
}
